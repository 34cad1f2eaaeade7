using System.Reflection;
using System.Runtime.CompilerServices;
using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Training;
using static TorchSharp.torch;

namespace Sconce.Engine.PlugIns;

/// <summary>
/// A class of a plug-in that specs can name. Beside TorchSharp's methods it may have, found by their names: <c>string extra_repr()</c>,
/// <c>void reset_parameters()</c>, and the constant <c>bool draws_random_numbers</c>.
/// </summary>
internal sealed class PlugInClass
{
    private readonly Type _type;
    private readonly PlugInConstructor _constructor;

    private PlugInClass(Type type, ForwardSignature signature, PlugInConstructor constructor)
    {
        (_type, Signature, _constructor) = (type, signature, constructor);
        AlwaysDraws = type.GetField("draws_random_numbers", BindingFlags.Static | BindingFlags.Public) is not { IsLiteral: true } field || field.GetRawConstantValue() is not false;
    }

    public string FullName => _type.FullName!;

    public string ShortName => _type.Name;

    public ForwardSignature Signature { get; }

    /// <summary>Whether a forward in eval mode may draw random numbers or keep something for the next: true unless the class says that it does not.</summary>
    public bool AlwaysDraws { get; }

    /// <summary>The class, or null and why it cannot be used.</summary>
    public static PlugInClass? Of(Type type, out string? problem)
    {
        problem = type.IsAbstract ? "it is abstract; derive a class from it that is not"
            : type.ContainsGenericParameters ? "it is generic; derive a class from it that is not, e.g. class Mine : Theirs<float>"
            : BaseCall.Problem(type);
        if (problem is not null || ForwardSignature.Of(type, out problem) is not { } signature)
        {
            return null;
        }

        return PlugInConstructor.Of(type, out problem) is { } constructor ? new PlugInClass(type, signature, constructor) : null;
    }

    /// <summary>The type of the catalogue that makes it.</summary>
    /// <param name="name">What specs call it.</param>
    public ModuleType ToModuleType(string name) =>
        new(name, "Module", "", _constructor.Arguments, [.. Signature.Inputs.Select(input => input.ToString())], (origin, context) => PlugInNode.Create(this, origin, context));

    /// <summary>Makes an object.</summary>
    /// <param name="origin">What it is made of.</param>
    /// <param name="quietly">Leave the generator of random numbers where it is: the values will be replaced.</param>
    /// <exception cref="EngineException">The constructor threw; what it had made is freed.</exception>
    public nn.Module Construct(NodeOrigin origin, bool quietly)
    {
        // Allocated before its constructor runs, as `new` does it, so that a constructor that throws leaves something to free.
        var thread = ThreadState.Now;
        var module = (nn.Module)RuntimeHelpers.GetUninitializedObject(_type);
        try
        {
            if (quietly)
            {
                return RandomStream.RunUndisturbed(Run);
            }

            return Run();
        }
        catch (Exception exception)
        {
            ModuleContents.Free(module);
            throw PlugInFailure.OfConstructor(exception, origin.Type.Name, origin.Args.Field, _constructor.Arguments.Select(argument => argument.Name));
        }
        finally
        {
            thread.Restore([]);
        }

        nn.Module Run()
        {
            _constructor.Run(module, origin.Args);
            return module;
        }
    }
}

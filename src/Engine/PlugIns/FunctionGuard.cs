using System.Reflection;
using System.Reflection.Emit;
using System.Runtime.Loader;
using static TorchSharp.torch;

namespace Sconce.Engine.PlugIns;

/// <summary>
/// Custom autograd functions of plug-ins. libtorch calls their <c>backward</c>, and an exception that leaves it crosses native frames, which ends the
/// process. TorchSharp keeps one instance of each function, so that is replaced by one of a class derived from it, made here, whose backward catches
/// whatever is thrown, gives no gradients, and has it thrown again once libtorch has returned.
/// </summary>
internal static class FunctionGuard
{
    private const string InputsKey = "sconce.inputs";

    [ThreadStatic]
    private static (Exception Exception, string Function)? _failure;

    // libtorch reads what backward gave after it has returned, when nothing else may hold it.
    [ThreadStatic]
    private static List<Tensor>? _given;

    /// <summary>Guards the functions of an assembly.</summary>
    /// <param name="types">The assembly's types.</param>
    /// <param name="context">The assembly's load context.</param>
    /// <returns>What is wrong with one of them; null where all are guarded.</returns>
    internal static string? Install(IReadOnlyList<Type> types, AssemblyLoadContext context)
    {
        foreach (var type in types.Where(type => !type.IsAbstract && !type.ContainsGenericParameters))
        {
            for (var at = type.BaseType; at is not null; at = at.BaseType)
            {
                if (!at.IsGenericType || at.GetGenericTypeDefinition() != typeof(autograd.Function<>) || at.GetGenericArguments()[0] != type)
                {
                    continue;
                }

                if (type.GetMethod("backward", [typeof(autograd.AutogradContext), typeof(List<Tensor>)]) is not null)
                {
                    return $"the autograd function {type.Name} is a MultiTensorFunction, whose backward has been seen to end the process; make it one SingleTensorFunction for each output";
                }

                if (type.IsSealed || !CanBeBase(type))
                {
                    return $"the autograd function {type.Name} is {(type.IsSealed ? "sealed" : "private")}, so its backward cannot be guarded, and an exception in it would end the process; make it internal or public, and not sealed";
                }

                at.GetProperty("Instance", BindingFlags.Static | BindingFlags.NonPublic)!.SetValue(null, Activator.CreateInstance(Derive(type, context)));
            }
        }

        return null;
    }

    /// <summary>Runs a backward; what a guarded function threw in it is thrown when libtorch has returned.</summary>
    internal static void Run(Action backward)
    {
        _failure = null;
        try
        {
            backward();
        }
        catch when (_failure is not null)
        {
            // Follows from the missing gradients; thrown below is the cause.
        }
        finally
        {
            _given = null;
        }

        if (_failure is var (exception, function))
        {
            _failure = null;
            throw PlugInFailure.Unexpected(exception, $"the backward of the plug-in's function {function}");
        }
    }

    /// <summary>Called by the derived classes: notes which inputs are tensors, for <see cref="Checked"/>.</summary>
    /// <param name="context">The call's context.</param>
    /// <param name="inputs">Forward's inputs.</param>
    public static void Remember(autograd.AutogradContext context, object[] inputs)
    {
        ArgumentNullException.ThrowIfNull(context);
        context.save_data(InputsKey, Array.ConvertAll(inputs, input => input is Tensor { IsInvalid: false }));
    }

    /// <summary>Called by the derived classes: gradients that TorchSharp will not refuse, which it does by throwing into libtorch.</summary>
    /// <param name="context">The call's context.</param>
    /// <param name="gradients">What backward gave; null where it threw.</param>
    /// <param name="exception">What it threw, or null.</param>
    /// <param name="function">The function's name.</param>
    public static List<Tensor> Checked(autograd.AutogradContext context, List<Tensor>? gradients, Exception? exception, string function)
    {
        ArgumentNullException.ThrowIfNull(context);
        var inputs = (bool[])context.get_data(InputsKey);
        if (exception is null && gradients?.Count == inputs.Length && !gradients.Where((gradient, i) => !inputs[i] && gradient is { IsInvalid: false }).Any())
        {
            return _given = gradients;
        }

        _failure ??= (exception ?? new InvalidOperationException($"backward must give one gradient for each of the {inputs.Length} inputs of forward, null for those that are no tensors"), function);
        return [.. inputs.Select(_ => (Tensor)null!)];
    }

    private static Type Derive(Type function, AssemblyLoadContext context)
    {
        using var reflection = context.EnterContextualReflection();
        var assembly = AssemblyBuilder.DefineDynamicAssembly(new AssemblyName($"{function.FullName}.Guarded"), AssemblyBuilderAccess.Run);
        var module = assembly.DefineDynamicModule("guarded");
        AllowAccess(assembly, module, function.Assembly, typeof(FunctionGuard).Assembly);
        var type = module.DefineType($"{function.Name}.Guarded", TypeAttributes.Public | TypeAttributes.Sealed, function);
        _ = type.DefineDefaultConstructor(MethodAttributes.Public);
        var contextType = typeof(autograd.AutogradContext);
        var forward = function.GetMethod("forward", [contextType, typeof(object[])])!;
        var backward = function.GetMethod("backward", [contextType, typeof(Tensor)])!;

        var il = Override(type, forward).GetILGenerator();
        il.Emit(OpCodes.Ldarg_1);
        il.Emit(OpCodes.Ldarg_2);
        il.Emit(OpCodes.Call, typeof(FunctionGuard).GetMethod(nameof(Remember))!);
        il.Emit(OpCodes.Ldarg_0);
        il.Emit(OpCodes.Ldarg_1);
        il.Emit(OpCodes.Ldarg_2);
        il.Emit(OpCodes.Call, forward);
        il.Emit(OpCodes.Ret);

        il = Override(type, backward).GetILGenerator();
        var (result, thrown) = (il.DeclareLocal(typeof(List<Tensor>)), il.DeclareLocal(typeof(Exception)));
        il.BeginExceptionBlock();
        il.Emit(OpCodes.Ldarg_0);
        il.Emit(OpCodes.Ldarg_1);
        il.Emit(OpCodes.Ldarg_2);
        il.Emit(OpCodes.Call, backward);
        il.Emit(OpCodes.Stloc, result);
        il.BeginCatchBlock(typeof(Exception));
        il.Emit(OpCodes.Stloc, thrown);
        il.EndExceptionBlock();
        il.Emit(OpCodes.Ldarg_1);
        il.Emit(OpCodes.Ldloc, result);
        il.Emit(OpCodes.Ldloc, thrown);
        il.Emit(OpCodes.Ldstr, function.Name);
        il.Emit(OpCodes.Call, typeof(FunctionGuard).GetMethod(nameof(Checked))!);
        il.Emit(OpCodes.Ret);
        return type.CreateType();
    }

    // The attribute below makes internal types accessible, and private ones not.
    private static bool CanBeBase(Type? type)
    {
        for (; type is not null; type = type.DeclaringType)
        {
            if (type.IsNestedPrivate || type.IsNestedFamily || type.IsNestedFamANDAssem)
            {
                return false;
            }
        }

        return true;
    }

    private static MethodBuilder Override(TypeBuilder type, MethodInfo method) => type.DefineMethod(
        method.Name, MethodAttributes.Public | MethodAttributes.Virtual | MethodAttributes.HideBySig, method.ReturnType, [.. method.GetParameters().Select(p => p.ParameterType)]);

    // Functions are often internal to their plug-in, as the guard is to the engine. The runtime honours this attribute by its name.
    private static void AllowAccess(AssemblyBuilder assembly, ModuleBuilder module, params Assembly[] to)
    {
        var type = module.DefineType("System.Runtime.CompilerServices.IgnoresAccessChecksToAttribute", TypeAttributes.Public, typeof(Attribute));
        var constructor = type.DefineConstructor(MethodAttributes.Public, CallingConventions.Standard, [typeof(string)]);
        var il = constructor.GetILGenerator();
        il.Emit(OpCodes.Ldarg_0);
        il.Emit(OpCodes.Call, typeof(Attribute).GetConstructor(BindingFlags.Instance | BindingFlags.NonPublic, [])!);
        il.Emit(OpCodes.Ret);
        var made = type.CreateType().GetConstructor([typeof(string)])!;
        foreach (var one in to)
        {
            assembly.SetCustomAttribute(new CustomAttributeBuilder(made, [one.GetName().Name!]));
        }
    }
}

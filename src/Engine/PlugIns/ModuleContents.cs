using System.Collections;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Sconce.Engine.Modules;
using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace Sconce.Engine.PlugIns;

/// <summary>What TorchSharp keeps in a module and does not show, or not truly: named_buffers leaves out those that are not persistent, named_parameters those under a second name.</summary>
internal static class ModuleContents
{
    private static readonly FieldInfo Handle = typeof(nn.Module).GetField("handle", BindingFlags.Instance | BindingFlags.NonPublic)!;

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_internal_params")]
    private static extern ref OrderedDict<string, Parameter>? Parameters(nn.Module module);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_internal_buffers")]
    private static extern ref OrderedDict<string, (Tensor Tensor, bool Persistent)>? Buffers(nn.Module module);

    /// <summary>The name that the base constructor was given.</summary>
    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "name")]
    public static extern ref string? Name(nn.Module module);

    /// <summary>Registered parameters, those under a second name too.</summary>
    public static IReadOnlyList<NamedParameter> NamedParameters(nn.Module module)
    {
        var named = new List<NamedParameter>();
        foreach (var (name, parameter) in Parameters(module)!)
        {
            named.Add(new(name, parameter));
        }

        return named;
    }

    /// <summary>Registered buffers, those that are not persistent too.</summary>
    public static IReadOnlyList<NamedBuffer> NamedBuffers(nn.Module module)
    {
        var named = new List<NamedBuffer>();
        foreach (var (name, (tensor, persistent)) in Buffers(module)!)
        {
            named.Add(new(name, tensor, persistent));
        }

        return named;
    }

    /// <summary>Whether the base constructor has run and made its native half.</summary>
    public static bool IsConstructed(nn.Module module) =>
        Parameters(module) is not null && Buffers(module) is not null && Handle.GetValue(module) is SafeHandle { IsInvalid: false };

    /// <summary>Whether its class is a plug-in's and not TorchSharp's.</summary>
    public static bool IsForeign(nn.Module module) => module.GetType().Assembly != typeof(torch).Assembly;

    /// <summary>Modules and tensors in the fields of a class that is not TorchSharp's, those in arrays, lists and dictionaries too.</summary>
    public static IEnumerable<(string Field, object Value, bool InCollection)> Fields(nn.Module module)
    {
        for (var type = module.GetType(); type is not null && type.Assembly != typeof(torch).Assembly; type = type.BaseType)
        {
            foreach (var field in type.GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly))
            {
                var value = field.GetValue(module);
                if (value is nn.Module or Tensor)
                {
                    yield return (field.Name, value, false);
                }
                else if (value is Array or IList or IDictionary)
                {
                    foreach (var item in value is IDictionary map ? map.Values : (IEnumerable)value)
                    {
                        if (item is nn.Module or Tensor)
                        {
                            yield return (field.Name, item, true);
                        }
                    }
                }
            }
        }
    }

    /// <summary>Frees the tensors of a module that is not to be, whatever state its constructor left it in and whatever cycles it has.</summary>
    public static void Free(nn.Module module)
    {
        var seen = new HashSet<object>(ReferenceEqualityComparer.Instance);
        var left = new Stack<object>([module]);
        while (left.TryPop(out var at))
        {
            if (!seen.Add(at))
            {
                continue;
            }

            if (at is Tensor tensor)
            {
                tensor.Dispose();
                continue;
            }

            var part = (nn.Module)at;
            foreach (var (_, value, _) in Fields(part))
            {
                left.Push(value);
            }

            foreach (var item in Registered(part))
            {
                left.Push(item);
            }

            LeaveToNative(part);
        }
    }

    /// <summary>Keeps the finalizer of a module that is half made or half freed from running the plug-in's code; its native half has one of its own.</summary>
    public static void LeaveToNative(nn.Module module)
    {
#pragma warning disable CA1816 // The class is not ours, and its own Dispose is what must not run.
        GC.SuppressFinalize(module);
#pragma warning restore CA1816
    }

    private static List<object> Registered(nn.Module module)
    {
        if (!IsConstructed(module))
        {
            return [];
        }

        List<object> tensors = [.. NamedParameters(module).Select(p => p.Parameter), .. NamedBuffers(module).Select(b => b.Tensor)];
        try
        {
            return [.. tensors, .. module.named_children().Select(child => child.module)];
        }
        catch (Exception)
        {
            // named_children is the plug-in's to override.
            return tensors;
        }
    }
}

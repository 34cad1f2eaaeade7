using System.Reflection;
using System.Reflection.Emit;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.PlugIns;

/// <summary>
/// What can be read in a constructor's code before it runs, of the two mistakes that end the process when it does: libtorch builds a string of the
/// module's name without looking, and TorchSharp's RegisterComponents follows a module that holds itself until the stack ends.
/// </summary>
internal static class BaseCall
{
    /// <summary>What is wrong with the constructors of a class and of those it derives from; null where nothing is.</summary>
    public static string? Problem(Type type)
    {
        foreach (var constructor in Constructors(type))
        {
            if (NameAt(constructor, out var code, out var at) && at > 0 && code[at - 1] == OpCodes.Ldnull.Value)
            {
                return $"it gives nn.Module no name: begin the constructor with `: base(\"{constructor.DeclaringType!.Name}\")`; null ends the process";
            }

            if (SelfField(constructor) is { } field)
            {
                return $"it keeps itself in its own field {field}, which is a cycle of modules; remove the field";
            }
        }

        return null;
    }

    /// <summary>Position of the parameter that a constructor hands on as the module's name; -1 where there is none.</summary>
    public static int NameParameter(ConstructorInfo constructor)
    {
        if (!NameAt(constructor, out var code, out var at))
        {
            return -1;
        }

        // Argument 0 is the object itself.
        return at > 0 && code[at - 1] is >= 0x03 and <= 0x05 ? code[at - 1] - 0x03
            : at > 1 && code[at - 2] == OpCodes.Ldarg_S.Value ? code[at - 1] - 1
            : -1;
    }

    private static IEnumerable<ConstructorInfo> Constructors(Type? type)
    {
        for (; type is not null && type.Assembly != typeof(torch).Assembly; type = type.BaseType)
        {
            foreach (var constructor in type.GetConstructors(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly))
            {
                yield return constructor;
            }
        }
    }

    // The call of the base constructor that takes the name and nothing else, TorchSharp's or one that hands it on: the instruction before it pushes the name.
    private static bool NameAt(ConstructorInfo constructor, out byte[] code, out int at)
    {
        code = constructor.GetMethodBody()?.GetILAsByteArray() ?? [];
        for (at = 0; at + 4 < code.Length; at++)
        {
            if (code[at] == OpCodes.Call.Value && Resolve(constructor, code, at + 1) is ConstructorInfo called && called.DeclaringType == constructor.DeclaringType!.BaseType
                && called.GetParameters() is [{ } name] && name.ParameterType == typeof(string)
                && (called.DeclaringType!.Assembly == typeof(torch).Assembly || NameParameter(called) == 0))
            {
                return true;
            }
        }

        return false;
    }

    // ldarg.0, ldarg.0, stfld: this.field = this.
    private static string? SelfField(ConstructorInfo constructor)
    {
        var code = constructor.GetMethodBody()?.GetILAsByteArray() ?? [];
        for (var i = 0; i + 6 < code.Length; i++)
        {
            if (code[i] == OpCodes.Ldarg_0.Value && code[i + 1] == OpCodes.Ldarg_0.Value && code[i + 2] == OpCodes.Stfld.Value
                && Resolve(constructor, code, i + 3) is FieldInfo field && typeof(nn.Module).IsAssignableFrom(field.FieldType))
            {
                return field.Name;
            }
        }

        return null;
    }

    private static MemberInfo? Resolve(ConstructorInfo constructor, byte[] code, int at)
    {
        try
        {
            return constructor.Module.ResolveMember(BitConverter.ToInt32(code, at), constructor.DeclaringType!.GetGenericArguments(), null);
        }
        catch (Exception exception) when (exception is ArgumentException or FileNotFoundException or TypeLoadException or BadImageFormatException or FileLoadException)
        {
            // Bytes that are no token: this scan does not know where instructions begin.
            return null;
        }
    }
}

using System.Globalization;
using System.Reflection;
using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.PlugIns;

/// <summary>A class's constructor as a spec gives it: its parameters are the arguments, by the names that they have in C#.</summary>
internal sealed class PlugInConstructor
{
    private readonly ConstructorInfo _constructor;
    private readonly Parameter[] _parameters;

    private PlugInConstructor(ConstructorInfo constructor, Parameter[] parameters)
    {
        (_constructor, _parameters) = (constructor, parameters);
        Arguments = [.. parameters.Where(p => p.Argument is not null).Select(p => p.Argument!)];
    }

    /// <summary>The arguments. A parameter with a default that no spec can give (a device) is not among them.</summary>
    public IReadOnlyList<Argument> Arguments { get; }

    /// <summary>The constructor of a class: of the public ones that a spec can give, that with the most parameters.</summary>
    /// <param name="type">The class.</param>
    /// <param name="problem">Why there is none; null where there is.</param>
    public static PlugInConstructor? Of(Type type, out string? problem)
    {
        var constructors = type.GetConstructors().OrderByDescending(c => c.GetParameters().Length).ToList();
        problem = "it has no public constructor";
        foreach (var constructor in constructors)
        {
            var parameters = constructor.GetParameters().Select(Read).ToArray();
            if (Array.Find(parameters, p => p.Problem is not null) is { } wrong)
            {
                problem = $"no spec can give its constructor's parameter {wrong.Info.Name}: {wrong.Problem}";
                continue;
            }

            problem = null;
            return new PlugInConstructor(constructor, parameters);
        }

        return null;
    }

    /// <summary>Runs the constructor on an object that was allocated before, so that what it made can be freed where it throws.</summary>
    public void Run(nn.Module module, BoundArguments args) =>
        _constructor.Invoke(module, BindingFlags.DoNotWrapExceptions, null, [.. _parameters.Select(p => p.Argument is null ? p.Info.DefaultValue : p.Value!(args))], CultureInfo.InvariantCulture);

    private static Parameter Read(ParameterInfo info)
    {
        var name = info.Name ?? $"arg{info.Position}";
        var type = Nullable.GetUnderlyingType(info.ParameterType) ?? info.ParameterType;
        var nullable = type != info.ParameterType || (!type.IsValueType && new NullabilityInfoContext().Create(info).WriteState == NullabilityState.Nullable);
        var isName = BaseCall.NameParameter((ConstructorInfo)info.Member) == info.Position;
        if (isName && ((info.HasDefaultValue && info.DefaultValue is null) || nullable))
        {
            // libtorch builds a string of it without looking: null ends the process.
            return new(info, null, null, "it is the name that nn.Module gets, and null there ends the process; make it a string without a null default");
        }

        var (argument, value) = Read(name, type);
        if (argument is null)
        {
            return new(info, null, null, info.HasDefaultValue ? null : $"it is a {type.Name}; numbers, bools, strings, enums, dtypes and lists of numbers can be given");
        }

        if (nullable || (info.HasDefaultValue && info.DefaultValue is null && !type.IsValueType))
        {
            argument = argument.Nullable();
        }

        if (info.HasDefaultValue)
        {
            argument = info.DefaultValue is { } given ? argument.Or(Default(given, type)) : argument.OrNone();
        }

        return new(info, argument, args => args.IsNone(name) ? null : value!(args), null);
    }

    private static (Argument? Argument, Func<BoundArguments, object>? Value) Read(string name, Type type)
    {
        if (type == typeof(long))
        {
            return (Argument.Int(name), args => args.Int(name));
        }

        if (type == typeof(int))
        {
            return (Argument.Int(name).Between(int.MinValue, int.MaxValue), args => (int)args.Int(name));
        }

        if (type == typeof(double))
        {
            return (Argument.Float(name), args => args.Float(name));
        }

        if (type == typeof(float))
        {
            return (Argument.Float(name), args => (float)args.Float(name));
        }

        if (type == typeof(bool))
        {
            return (Argument.Bool(name, false).WithoutDefault(), args => args.Bool(name));
        }

        if (type == typeof(string))
        {
            return (Argument.Text(name), args => args.Text(name));
        }

        if (type == typeof(ScalarType))
        {
            return (Argument.Dtype(name).WithoutDefault(), args => args.DtypeOrNone(name)!.Value.ToScalarType());
        }

        if (type.IsEnum)
        {
            return (Argument.Text(name, Enum.GetNames(type)), args => Enum.Parse(type, args.Text(name)));
        }

        return ReadList(name, type);
    }

    // Arrays, and the interfaces that arrays have.
    private static (Argument? Argument, Func<BoundArguments, object>? Value) ReadList(string name, Type type) => type switch
    {
        _ when !type.IsArray && !type.IsInterface => (null, null),
        _ when type.IsAssignableFrom(typeof(long[])) => (Argument.Ints(name), args => args.Ints(name)),
        _ when type.IsAssignableFrom(typeof(double[])) => (Argument.Floats(name), args => args.Floats(name)),
        _ when type.IsAssignableFrom(typeof(int[])) => (Argument.Ints(name).Between(int.MinValue, int.MaxValue), args => Array.ConvertAll(args.Ints(name), n => (int)n)),
        _ when type.IsAssignableFrom(typeof(float[])) => (Argument.Floats(name), args => Array.ConvertAll(args.Floats(name), x => (float)x)),
        _ => (null, null),
    };

    // In the shape of JSON, as a caller would give it.
    private static object Default(object value, Type type) => value switch
    {
        int n => (long)n,
        float x => double.Parse(x.ToString("R", CultureInfo.InvariantCulture), CultureInfo.InvariantCulture),
        _ when type == typeof(ScalarType) => ((ScalarType)Enum.ToObject(type, value)).ToElementType().Name(),
        _ when type.IsEnum => Enum.ToObject(type, value).ToString()!,
        _ => value,
    };

    private sealed record Parameter(ParameterInfo Info, Argument? Argument, Func<BoundArguments, object?>? Value, string? Problem);
}

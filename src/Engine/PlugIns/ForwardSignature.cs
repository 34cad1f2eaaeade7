using System.Collections.Concurrent;
using System.Linq.Expressions;
using System.Reflection;
using System.Runtime.CompilerServices;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.PlugIns;

/// <summary>
/// What a class that derives from <c>nn.Module&lt;T1, …, TResult&gt;</c> takes and gives: tensors, tuples and arrays of them, and how a call is made
/// with such values.
/// </summary>
internal sealed class ForwardSignature
{
    private static readonly ConcurrentDictionary<Type, (ForwardSignature? Signature, string? Problem)> Known = new();

    private readonly Type[] _inputs;
    private readonly Type _result;
    private readonly Func<nn.Module, object?[], object?> _call;

    private ForwardSignature(Type typed, MethodInfo forward)
    {
        TypedModule = typed;
        _inputs = typed.GetGenericArguments()[..^1];
        _result = typed.GetGenericArguments()[^1];
        Inputs = [.. forward.GetParameters().Select(p => new InputName(p.Name ?? $"input{p.Position + 1}", IsOptional(p)))];
        _call = Compile(typed, _inputs);
    }

    /// <summary>The <c>nn.Module&lt;…&gt;</c> that the class derives from.</summary>
    public Type TypedModule { get; }

    /// <summary>Forward's inputs, named as its parameters are.</summary>
    public IReadOnlyList<InputName> Inputs { get; }

    /// <summary>The signature of a class.</summary>
    /// <param name="type">A class that derives from nn.Module.</param>
    /// <param name="problem">Why it has none that can be called from outside; null where it has.</param>
    public static ForwardSignature? Of(Type type, out string? problem)
    {
        (var signature, problem) = Known.GetOrAdd(type, Read);
        return signature;
    }

    /// <summary>The <c>nn.Module&lt;…&gt;</c> that a class derives from, or null.</summary>
    public static Type? Typed(Type type)
    {
        for (var at = type; at is not null; at = at.BaseType)
        {
            if (at.IsGenericType && at.DeclaringType == typeof(nn) && at.Name.StartsWith("Module`", StringComparison.Ordinal))
            {
                return at;
            }
        }

        return null;
    }

    /// <summary>Calls a module of this signature.</summary>
    public object? Call(nn.Module module, object?[] values) => _call(module, values);

    /// <summary>The values that a call takes, in the types of the parameters.</summary>
    /// <exception cref="EngineException">A value has another structure than its parameter.</exception>
    public object?[] ToValues(IReadOnlyList<TensorTree> inputs, Func<int, string, EngineException> refuse)
    {
        var values = new object?[_inputs.Length];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = ToValue(inputs[i], _inputs[i], what => refuse(i, what));
        }

        return values;
    }

    /// <summary>A result as the type that the module returns.</summary>
    public object? ToResult(TensorTree result, Func<string, EngineException> refuse) => ToValue(result, _result, refuse);

    /// <summary>What a call took or gave.</summary>
    public static TensorTree ToTree(object? value) => value switch
    {
        null => TensorTree.None,
        Tensor tensor => TensorTree.Of(tensor),
        ITuple tuple => TensorTree.Tuple([.. Enumerable.Range(0, tuple.Length).Select(i => ToTree(tuple[i]))]),
        Tensor[] list => TensorTree.Tuple([.. list.Select(TensorTree.Of)]),
        _ => throw new InvalidOperationException($"a module gave {value.GetType().Name}"),
    };

    private static (ForwardSignature? Signature, string? Problem) Read(Type type)
    {
        if (Typed(type) is not { } typed)
        {
            return (null, "it derives from nn.Module without a typed forward; derive from nn.Module<Tensor, Tensor> or another nn.Module<…> and override forward");
        }

        var arguments = typed.GetGenericArguments();
        if (Array.Find(arguments, argument => !IsSupported(argument)) is { } odd)
        {
            return (null, $"its forward takes or returns {odd.Name}; only Tensor, tuples of tensors and Tensor[] can be passed");
        }

        var forward = type.GetMethod("forward", BindingFlags.Instance | BindingFlags.Public, arguments[..^1]) ?? typed.GetMethod("forward", arguments[..^1])!;
        return (new ForwardSignature(typed, forward), null);
    }

    private static object? ToValue(TensorTree tree, Type type, Func<string, EngineException> refuse)
    {
        if (tree.IsNone)
        {
            return type.IsValueType && Nullable.GetUnderlyingType(type) is null ? throw refuse("None") : null;
        }

        type = Nullable.GetUnderlyingType(type) ?? type;
        if (type == typeof(Tensor))
        {
            return tree.Tensor ?? throw refuse("a tuple");
        }

        var items = tree.Items ?? throw refuse("one tensor");
        if (type == typeof(Tensor[]))
        {
            return items.Select(item => item.Tensor ?? throw refuse("a tuple within a tuple")).ToArray();
        }

        var types = type.GetGenericArguments();
        return items.Count == types.Length
            ? Activator.CreateInstance(type, [.. items.Zip(types, (item, wanted) => ToValue(item, wanted, refuse))])
            : throw refuse($"a tuple of {items.Count}");
    }

    private static bool IsSupported(Type type)
    {
        type = Nullable.GetUnderlyingType(type) ?? type;
        return type == typeof(Tensor) || type == typeof(Tensor[])
            || (type.IsValueType && type.IsAssignableTo(typeof(ITuple)) && type.GetGenericArguments() is { Length: > 0 and < 8 } items && items.All(IsSupported));
    }

    private static bool IsOptional(ParameterInfo parameter) =>
        parameter.HasDefaultValue || Nullable.GetUnderlyingType(parameter.ParameterType) is not null
        || new NullabilityInfoContext().Create(parameter).WriteState == NullabilityState.Nullable;

    // "call", not "forward": hooks that the plug-in registers on itself run too.
    private static Func<nn.Module, object?[], object?> Compile(Type typed, Type[] inputs)
    {
        var (module, values) = (Expression.Parameter(typeof(nn.Module)), Expression.Parameter(typeof(object?[])));
        var call = Expression.Call(Expression.Convert(module, typed), typed.GetMethod("call", inputs)!,
            inputs.Select((type, i) => Expression.Convert(Expression.ArrayIndex(values, Expression.Constant(i)), type)));
        return Expression.Lambda<Func<nn.Module, object?[], object?>>(Expression.Convert(call, typeof(object)), module, values).Compile();
    }
}

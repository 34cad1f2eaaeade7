using System.Collections.Concurrent;
using System.Linq.Expressions;
using static TorchSharp.torch;

namespace Sconce.Engine.PlugIns;

/// <summary>
/// Forward hooks on the modules inside a plug-in, which its own code calls: they tell the node that stands for the module what goes in and what comes
/// out. TorchSharp's hooks are typed by the module's signature, so they are made for each signature once.
/// </summary>
internal static class ChildHooks
{
    private static readonly ConcurrentDictionary<Type, Action<nn.Module, PlugInNode>> Installers = new();

    /// <summary>Puts the hooks on a module.</summary>
    public static void Install(ForwardSignature signature, nn.Module module, PlugInNode node) =>
        Installers.GetOrAdd(signature.TypedModule, Compile)(module, node);

    private static Action<nn.Module, PlugInNode> Compile(Type typed)
    {
        var (module, node) = (Expression.Parameter(typeof(nn.Module)), Expression.Parameter(typeof(PlugInNode)));
        var hooks = typed.BaseType!.GetGenericArguments();
        var target = Expression.Convert(module, typed);
        return Expression.Lambda<Action<nn.Module, PlugInNode>>(
            Expression.Block(
                Expression.Call(target, typed.GetMethod("register_forward_pre_hook", [hooks[0]])!, Pre(typed, hooks[0], node)),
                Expression.Call(target, typed.GetMethod("register_forward_hook", [hooks[1]])!, Post(typed, hooks[1], node))),
            module, node).Compile();
    }

    // (module, x1, …, xn) => what goes in instead; null leaves it as it is.
    private static LambdaExpression Pre(Type typed, Type hook, Expression node)
    {
        var inputs = typed.GetGenericArguments()[..^1].Select(type => Expression.Parameter(type)).ToArray();
        var values = Expression.Variable(typeof(object?[]));
        Expression Item(int i) => Expression.Convert(Expression.ArrayIndex(values, Expression.Constant(i)), inputs[i].Type);
        var result = hook.GetGenericArguments()[^1];
        var changed = inputs.Length == 1
            ? Item(0)
            : Expression.Convert(Expression.New(Nullable.GetUnderlyingType(result)!.GetConstructor([.. inputs.Select(input => input.Type)])!, inputs.Select((_, i) => Item(i))), result);

        // One input of a value type (a tuple) cannot be null: it is handed back.
        Expression unchanged = inputs.Length == 1 ? inputs[0] : Expression.Default(result);
        return Expression.Lambda(
            hook,
            Expression.Block(
                [values],
                Expression.Assign(values, Expression.Call(node, nameof(PlugInNode.Entering), null, Expression.NewArrayInit(typeof(object), inputs.Select(input => Expression.Convert(input, typeof(object)))))),
                Expression.Condition(Expression.ReferenceEqual(values, Expression.Constant(null)), unchanged, changed)),
            [Expression.Parameter(typed), .. inputs]);
    }

    // (module, x1, …, xn, y) => what comes out.
    private static LambdaExpression Post(Type typed, Type hook, Expression node)
    {
        var arguments = typed.GetGenericArguments();
        var inputs = arguments[..^1].Select(type => Expression.Parameter(type)).ToArray();
        var output = Expression.Parameter(arguments[^1]);
        return Expression.Lambda(
            hook,
            Expression.Convert(Expression.Call(node, nameof(PlugInNode.Leaving), null, Expression.Convert(output, typeof(object))), output.Type),
            [Expression.Parameter(typed), .. inputs, output]);
    }
}

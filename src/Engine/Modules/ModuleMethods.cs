using Sconce.Engine.Tensors;

namespace Sconce.Engine.Modules;

/// <summary>A method of a module beside forward.</summary>
/// <param name="Name">PyTorch's name.</param>
/// <param name="Inputs">What it takes.</param>
/// <param name="Run">What it does; the inputs are in order, None for those left out.</param>
internal sealed record ModuleMethod(string Name, IReadOnlyList<InputName> Inputs, Func<IReadOnlyList<TensorTree>, CallContext, TensorTree> Run);

/// <summary>Calls methods by name. As in PyTorch the module's own hooks belong to forward; its children are called as ever.</summary>
internal static class ModuleMethods
{
    /// <summary>Calls a method.</summary>
    /// <param name="node">The module.</param>
    /// <param name="name">The method's name.</param>
    /// <param name="arguments">Its inputs.</param>
    /// <param name="context">What goes with the call; its path is the module's.</param>
    /// <exception cref="EngineException">The module has no such method, or it cannot take the inputs.</exception>
    public static TensorTree Call(ModuleNode node, string name, CallArguments arguments, CallContext context)
    {
        var method = node.Methods.FirstOrDefault(m => m.Name == name) ?? throw EngineException.Invalid("method",
            $"is {EngineException.Quote(name)}; {node.Display(context.Path)} has {string.Join(", ", node.Methods.Select(m => m.Name).Prepend("forward").Select(EngineException.Quote))}", "METHOD_UNKNOWN");
        var display = $"{name} of {node.Display(context.Path)}";
        var inputs = arguments.Bind(method.Inputs, () => display);
        context.Field = arguments.Positional.Count == 1 && arguments.Named.Count == 0 ? $"{arguments.FieldPrefix}[0]" : arguments.FieldPrefix;
        try
        {
            return method.Run(inputs, context);
        }
        catch (Exception exception) when (CallFailure.IsNative(exception))
        {
            throw CallFailure.Translate(exception, display, inputs, context.Field);
        }
    }
}

using System.Globalization;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Modules;

/// <summary><c>ParameterList</c> and <c>ParameterDict</c>: hold parameters for a wiring to read; have no forward, as in PyTorch. A spec says shapes, and the values begin as 0.</summary>
internal sealed class ParametersNode : ModuleNode
{
    private readonly bool _isList;

    /// <param name="origin">What it is made of.</param>
    /// <param name="context">How it is made.</param>
    /// <param name="names">Names of a dict's parameters; null for a list.</param>
    public ParametersNode(NodeOrigin origin, BuildContext context, string[]? names)
        : base(origin)
    {
        var shapes = origin.Args.Shapes("shapes");
        context.Count(shapes.Length, origin.Args.Field);
        _isList = names is null;
        names ??= [.. Enumerable.Range(0, shapes.Length).Select(i => i.ToString(CultureInfo.InvariantCulture))];
        if (names.Length != shapes.Length || names.Distinct().Count() != names.Length)
        {
            throw origin.Args.Refuse("names", $"{names.Length} names were given, {names.Distinct().Count()} of them different, for {shapes.Length} shapes; expected one name for each");
        }

        if (names.Select(name => AttributeNames.Problem(name, "parameter")).FirstOrDefault(problem => problem is not null) is { } problem)
        {
            throw origin.Args.Refuse("names", problem);
        }

        Parameters = [.. names.Zip(shapes).Select(entry => new NamedParameter(entry.First, context.Parameter(origin, entry.Second)))];
        if (context.Initialise)
        {
            foreach (var (_, parameter) in Parameters)
            {
                Initial.Fill(parameter, 0);
            }
        }
    }

    public override string ExtraRepr => string.Join('\n', Parameters.Select(entry =>
        $"  ({entry.Name}): Parameter containing: [torch.{(_isList ? entry.Parameter.dtype.ToElementType().Name() : TensorTypeName(entry.Parameter.dtype.ToElementType()))} of size {string.Join('x', entry.Parameter.shape)}]"));

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context) => throw ModuleListNode.NoForward(this, context);

    // What Tensor.type() says, which is what PyTorch prints of a dict's.
    private static string TensorTypeName(ElementType type) => type switch
    {
        ElementType.Float16 => "HalfTensor",
        ElementType.Float64 => "DoubleTensor",
        ElementType.BFloat16 => "BFloat16Tensor",
        ElementType.Complex64 => "ComplexFloatTensor",
        ElementType.Complex128 => "ComplexDoubleTensor",
        ElementType.Int64 => "LongTensor",
        ElementType.Int32 => "IntTensor",
        ElementType.Int16 => "ShortTensor",
        ElementType.Int8 => "CharTensor",
        ElementType.UInt8 => "ByteTensor",
        ElementType.Bool => "BoolTensor",
        _ => "FloatTensor",
    };
}

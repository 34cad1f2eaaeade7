using Sconce.Engine.Tensors;
using TorchSharp;
using static Sconce.Engine.Catalog.Argument;
using static Sconce.Engine.Catalog.StatelessType;
using static TorchSharp.torch;

namespace Sconce.Engine.Catalog;

/// <summary>Functions of <c>torch</c> that work element by element.</summary>
internal static class ElementwiseFunctions
{
    public static IReadOnlyList<FunctionType> All { get; } =
    [
        Unary("abs", x => x.abs()), Unary("neg", x => x.neg()), Unary("sign", x => x.sign()), Unary("square", x => x.square()), Unary("reciprocal", x => x.reciprocal()),
        Unary("exp", x => x.exp()), Unary("expm1", x => x.expm1()), Unary("log", x => x.log()), Unary("log1p", x => x.log1p()), Unary("log2", x => x.log2()),
        Unary("sqrt", x => x.sqrt()), Unary("rsqrt", x => x.rsqrt()), Unary("sin", x => x.sin()), Unary("cos", x => x.cos()), Unary("erf", x => x.erf()),
        Unary("floor", x => x.floor()), Unary("ceil", x => x.ceil()), Unary("round", x => x.round()), Unary("logical_not", x => x.logical_not()), Unary("isnan", x => x.isnan()),
        Unary("clone", x => x.clone()), Unary("detach", x => x.detach()), Unary("contiguous", x => x.contiguous()), Unary("zeros_like", x => x.zeros_like()), Unary("ones_like", x => x.ones_like()),
        Scaled("add", (x, y) => x.add(y), (x, y) => x.add(y)), Scaled("sub", (x, y) => x.sub(y), (x, y) => x.sub(y)),
        Binary("mul", (x, y) => x.mul(y), (x, y) => x.mul(y)), Binary("pow", (x, y) => x.pow(y), (x, y) => x.pow(y), "exponent"),
        Binary("maximum", (x, y) => x.maximum(y), null), Binary("minimum", (x, y) => x.minimum(y), null),
        Binary("eq", (x, y) => x.eq(y), (x, y) => x.eq(y)), Binary("ne", (x, y) => x.ne(y), (x, y) => x.ne(y)), Binary("lt", (x, y) => x.lt(y), (x, y) => x.lt(y)),
        Binary("le", (x, y) => x.le(y), (x, y) => x.le(y)), Binary("gt", (x, y) => x.gt(y), (x, y) => x.gt(y)), Binary("ge", (x, y) => x.ge(y), (x, y) => x.ge(y)),
        Binary("logical_and", (x, y) => x.logical_and(y), null), Binary("logical_or", (x, y) => x.logical_or(y), null),
        Divide(),
        new("clamp", [Float("min").OrNone(), Float("max").OrNone()], ["input"], args =>
        {
            var (min, max) = (args.FloatOrNone("min"), args.FloatOrNone("max"));
            return min is null && max is null
                ? throw args.Refuse("min", "min, max or both must be given")
                : One(x => x.clamp(min is { } low ? Number(low) : null, max is { } high ? Number(high) : null));
        }),
        new("where", [], ["condition", "input", "other"], _ => (inputs, mode) => TensorTree.Of(where(Truth(inputs[0]!, "condition"), Room(mode, inputs[1]!, inputs), inputs[2]!))),
        new("masked_fill", [Float("value")], ["input", "mask"], args =>
        {
            var value = args.Float("value");
            return (inputs, mode) => TensorTree.Of(Room(mode, inputs[0]!, inputs).masked_fill(Truth(inputs[1]!, "mask"), Number(value)));
        }),
        new("lerp", [Float("weight")], ["input", "end"], args =>
        {
            var weight = args.Float("weight");
            return (inputs, mode) => TensorTree.Of(Room(mode, inputs[0]!, inputs) + ((inputs[1]! - inputs[0]!) * weight));
        }),
        new("to", [Dtype().WithoutDefault()], ["input"], args =>
        {
            var type = args.DtypeOrNone("dtype")!.Value.ToScalarType();
            return One(x => x.to_type(type));
        }),
    ];

    /// <summary>An integer where the number is one, so that integer tensors stay integers, as in Python.</summary>
    public static Scalar Number(double value) => Math.Floor(value) == value && Math.Abs(value) < 1L << 53 ? (Scalar)(long)value : (Scalar)value;

    private static FunctionType Unary(string name, Func<Tensor, Tensor> function) => new(name, [], ["input"], _ => One(function));

    // The second operand is a tensor, or a number among the arguments.
    private static FunctionType Binary(string name, Func<Tensor, Tensor, Tensor> ofTensors, Func<Tensor, Scalar, Tensor>? ofNumber, string operand = "other") =>
        new(name, ofNumber is null ? [] : [Float(operand).OrNone()], ["input", ofNumber is null ? operand : operand + "?"], args =>
        {
            var number = ofNumber is null ? null : args.FloatOrNone(operand);
            return (inputs, mode) => TensorTree.Of(number is { } value ? ofNumber!(inputs[0]!, Number(value)) : ofTensors(Room(mode, inputs[0]!, inputs), inputs[1]!));
        })
        { NumberOperand = ofNumber is null ? null : operand };

    private static FunctionType Scaled(string name, Func<Tensor, Tensor, Tensor> ofTensors, Func<Tensor, Scalar, Tensor> ofNumber) =>
        new(name, [Float("other").OrNone(), Float("alpha").Or(1.0)], ["input", "other?"], args =>
        {
            var (number, alpha) = (args.FloatOrNone("other"), args.Float("alpha"));
            return (inputs, mode) => TensorTree.Of(number is { } value ? ofNumber(inputs[0]!, Number(value * alpha))
                : ofTensors(Room(mode, inputs[0]!, inputs), alpha == 1 ? inputs[1]! : inputs[1]!.mul(Number(alpha))));
        })
        { NumberOperand = "other" };

    private static FunctionType Divide() => new("div", [Float("other").OrNone(), Text("rounding_mode", "trunc", "floor").OrNone()], ["input", "other?"], args =>
    {
        var number = args.FloatOrNone("other");
        var mode = args.IsNone("rounding_mode") ? RoundingMode.None : args.Text("rounding_mode") == "trunc" ? RoundingMode.trunc : RoundingMode.floor;
        return (inputs, call) =>
        {
            // Integers divide into float32.
            var x = Room(call, inputs[0]!, inputs, mode == RoundingMode.None ? sizeof(float) : 1);
            if (mode == RoundingMode.None)
            {
                return TensorTree.Of(number is { } value ? x.div(Number(value)) : x.div(inputs[1]!));
            }

            var divisor = inputs[1] ?? full_like(x, Number(number!.Value));
            return TensorTree.Of(IsInteger(x) && IsInteger(divisor) ? DivideIntegers(x, divisor, mode) : x.div(divisor, mode));
        };
    })
    { NumberOperand = "other" };

    private static bool IsInteger(Tensor tensor) => !tensor.is_floating_point() && !tensor.is_complex();

    // What the processor cannot divide is a signal that ends the process: by 0, and the least number by -1, whose result wraps as it does by floor.
    private static Tensor DivideIntegers(Tensor x, Tensor divisor, RoundingMode mode)
    {
        if (divisor.eq(0).any().item<bool>())
        {
            throw new ArgumentException("an integer cannot be divided by zero");
        }

        if (mode == RoundingMode.floor || divisor.dtype is ScalarType.Bool or ScalarType.Byte)
        {
            return x.div(divisor, mode);
        }

        var negates = divisor.eq(-1);
        if (!negates.any().item<bool>())
        {
            return x.div(divisor, mode);
        }

        var quotient = x.div(divisor.masked_fill(negates, 1), mode);
        return where(negates, quotient.neg(), quotient);
    }

    // An operand, once there is room for what all of them broadcast to.
    private static Tensor Room(FunctionMode mode, Tensor operand, Tensor?[] operands, long least = 1)
    {
        mode.NeedBroadcast(operands, least);
        return operand;
    }

    private static Tensor Truth(Tensor tensor, string name) =>
        tensor.dtype == ScalarType.Bool ? tensor : throw new ArgumentException($"{name} is a bool tensor");
}

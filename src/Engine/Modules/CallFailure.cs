using System.Runtime.InteropServices;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>Makes errors of the engine out of what libtorch and TorchSharp throw at a call.</summary>
internal static class CallFailure
{
    /// <summary>Whether it comes from libtorch (<see cref="ExternalException"/>), from TorchSharp's checks of arguments, or from sizes that overflow.</summary>
    public static bool IsNative(Exception exception) =>
        exception is ExternalException or ArgumentException or ArithmeticException or InvalidOperationException or NotImplementedException or IndexOutOfRangeException or NotSupportedException;

    /// <summary>The error for a call that failed.</summary>
    /// <param name="exception">What was thrown.</param>
    /// <param name="callee">What was called, for the message.</param>
    /// <param name="inputs">What it was called with.</param>
    /// <param name="field">The field of the request to blame.</param>
    public static EngineException Translate(Exception exception, string callee, IReadOnlyList<TensorTree> inputs, string field)
    {
        var cause = Cause(exception);
        if (IsOutOfMemory(cause))
        {
            return new EngineException(EngineError.ResourceExhausted, "OUT_OF_MEMORY", $"{callee} ran out of memory: {cause}; send a smaller batch, or delete modules and tensors", exception);
        }

        if (cause.Contains("INTERNAL ASSERT", StringComparison.Ordinal))
        {
            return new EngineException(EngineError.Internal, "LIBTORCH_ASSERT", $"{callee} failed inside libtorch: {cause}", exception);
        }

        var message = $"{callee}{(inputs.Count == 0 ? " failed" : $" cannot take {Describe(inputs)}")}: {cause}";
        return new EngineException(EngineError.InvalidArgument, "SHAPE_MISMATCH", $"{field}: {message}", exception) { Fields = [new(field, message)] };
    }

    /// <summary>Shapes and dtypes of values, for messages.</summary>
    public static string Describe(IReadOnlyList<TensorTree> values) => string.Join(", ", values.Where(v => !v.IsNone).Select(Describe));

    /// <summary>Shape and dtype of a tensor, e.g. <c>float32 [2, 3]</c>.</summary>
    public static string Describe(Tensor tensor) => $"{tensor.dtype.ToElementType().Name()} [{string.Join(", ", tensor.shape)}]";

    private static string Describe(TensorTree value) =>
        value.Tensor is { } tensor ? Describe(tensor) : value.Items is { } items ? $"({string.Join(", ", items.Select(Describe))})" : "None";

    private static bool IsOutOfMemory(string message) =>
        message.Contains("can't allocate memory", StringComparison.Ordinal) || message.Contains("out of memory", StringComparison.Ordinal);

    /// <summary>The message without the native backtrace that libtorch's end with, on one line.</summary>
    public static string Cause(Exception exception)
    {
        var message = exception.Message;
        var end = message.IndexOf("\nException raised from", StringComparison.Ordinal);
        var text = (end < 0 ? message : message[..end]).Trim();
        return text.ReplaceLineEndings(" ");
    }
}

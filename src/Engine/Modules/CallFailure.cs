using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>Makes errors of the engine out of what libtorch and TorchSharp throw at a call.</summary>
internal static partial class CallFailure
{
    /// <summary>Whether it comes from libtorch (<see cref="ExternalException"/>), from TorchSharp's checks of arguments, or from sizes that overflow.</summary>
    public static bool IsNative(Exception exception) =>
        exception is ExternalException or ArgumentException or ArithmeticException or InvalidOperationException or NotImplementedException or IndexOutOfRangeException or NotSupportedException;

    /// <summary>The error for a call that failed.</summary>
    /// <param name="exception">What was thrown.</param>
    /// <param name="callee">What was called, for the message.</param>
    /// <param name="inputs">What it was called with.</param>
    /// <param name="field">The field of the request to blame.</param>
    /// <param name="also">What else may be to blame; empty for nothing.</param>
    public static EngineException Translate(Exception exception, string callee, IReadOnlyList<TensorTree> inputs, string field, string also = "")
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

        return Refused(exception, field, $"{callee}{(inputs.Count == 0 ? " failed" : $" cannot take {Describe(inputs)}")}{(also.Length == 0 ? "" : $" ({also})")}", "SHAPE_MISMATCH");
    }

    /// <summary>The error for a field of the request that libtorch could do nothing with.</summary>
    public static EngineException Refused(Exception exception, string field, string what, string reason = "BAD_ARGUMENT")
    {
        var message = $"{what}: {Cause(exception)}";
        return new EngineException(EngineError.InvalidArgument, reason, $"{field}: {message}", exception) { Fields = [new(field, message)] };
    }

    /// <summary>Shapes and dtypes of values, for messages.</summary>
    public static string Describe(IReadOnlyList<TensorTree> values) => string.Join(", ", values.Where(v => !v.IsNone).Select(Describe));

    /// <summary>Shape and dtype of a tensor, e.g. <c>float32 [2, 3]</c>.</summary>
    public static string Describe(Tensor tensor) => $"{tensor.dtype.ToElementType().Name()} [{string.Join(", ", tensor.shape)}]";

    private static string Describe(TensorTree value) =>
        value.Tensor is { } tensor ? Describe(tensor) : value.Items is { } items ? $"({string.Join(", ", items.Select(Describe))})" : "None";

    private static bool IsOutOfMemory(string message) =>
        message.Contains("can't allocate memory", StringComparison.Ordinal) || message.Contains("out of memory", StringComparison.Ordinal);

    /// <summary>The message without the native backtrace that libtorch's end with and the source file that some begin with, on one line.</summary>
    public static string Cause(Exception exception)
    {
        // Some quote what a caller sent; nobody reads more of it than this.
        const int Most = 4096;
        var message = exception.Message.Length > Most ? exception.Message[..Most] : exception.Message;
        foreach (var mark in (ReadOnlySpan<string>)["Exception raised from", "frame #", "(no backtrace available)"])
        {
            var at = message.IndexOf(mark, StringComparison.Ordinal);
            message = at < 0 ? message : message[..at];
        }

        return SourceFile().Replace(message, "").Trim().ReplaceLineEndings(" ");
    }

    /// <summary>The error for a backward that libtorch refuses: which shapes and options it can differentiate shows only there.</summary>
    /// <param name="exception">What was thrown.</param>
    /// <param name="what">What was differentiated, for the message.</param>
    /// <param name="resource">What the error is about, or null.</param>
    public static EngineException TranslateBackward(Exception exception, string what, ResourceRef? resource = null)
    {
        var cause = Cause(exception);
        return IsOutOfMemory(cause)
            ? new EngineException(EngineError.ResourceExhausted, "OUT_OF_MEMORY", $"the backward of {what} ran out of memory: {cause}; send a smaller batch, or delete modules and tensors", exception)
            : new EngineException(EngineError.FailedPrecondition, "BACKWARD_FAILED", $"{what} has no gradients for such inputs: {cause}; gradients are as they were", exception) { Resource = resource };
    }

    // "[enforce fail at alloc_cpu.cpp:80] .", and "file.cpp:12, " as TorchSharp and oneDNN write it.
    [GeneratedRegex(@"\[enforce fail at [^\]]*\]\s*\.?\s*|(?<![\w/.-])[\w./-]*/[\w.-]+\.(cpp|h|cc|cu|hpp):\d+[:,]?\s*")]
    private static partial Regex SourceFile();
}

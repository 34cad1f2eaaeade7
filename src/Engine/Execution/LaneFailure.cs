using System.Runtime.InteropServices;
using Sconce.Engine.Modules;

namespace Sconce.Engine.Execution;

/// <summary>Makes an <see cref="EngineException"/> of whatever a call on a lane threw.</summary>
internal static class LaneFailure
{
    public static EngineException Translate(Exception exception) => exception switch
    {
        EngineException known => known,
        OutOfMemoryException => OutOfMemory(exception),
        ExternalException when IsOutOfMemory(exception.Message) => OutOfMemory(exception),
        ExternalException when exception.Message.Contains("without overflow", StringComparison.Ordinal) => Overflow(exception),
        ExternalException => new EngineException(EngineError.Internal, "LIBTORCH_FAILED", $"libtorch failed: {CallFailure.Cause(exception)}", exception),
        _ => new EngineException(EngineError.Internal, "UNEXPECTED", $"{exception.GetType().Name}: {exception.Message}", exception),
    };

    private static bool IsOutOfMemory(string message) =>
        message.Contains("can't allocate memory", StringComparison.Ordinal) || message.Contains("not enough memory", StringComparison.Ordinal) || message.Contains("out of memory", StringComparison.OrdinalIgnoreCase);

    private static EngineException OutOfMemory(Exception cause) =>
        new(EngineError.ResourceExhausted, "OUT_OF_MEMORY",
            $"the device ran out of memory ({CallFailure.Cause(cause)}); send smaller batches, delete modules or graphs, or lower memory_budget_bytes so that this is refused earlier", cause);

    // An option may be a fine number when an optimizer is made, and none in the dtype of the parameters that it meets.
    private static EngineException Overflow(Exception cause) =>
        EngineException.Precondition("NUMBER_OVERFLOW", $"{CallFailure.Cause(cause)}: a learning rate or another option is beyond the range of the parameters' dtype; set a smaller one", null);
}

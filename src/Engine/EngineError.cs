namespace Sconce.Engine;

/// <summary>What kind of failure an <see cref="EngineException"/> is. The server maps each to one gRPC status.</summary>
public enum EngineError
{
    /// <summary>The caller sent something that can never work, whatever the state.</summary>
    InvalidArgument,

    /// <summary>The call is well formed but the state forbids it: no graph, a used graph, an absent device.</summary>
    FailedPrecondition,

    /// <summary>A module, path, tensor, graph, session or optimizer that is not there.</summary>
    NotFound,

    /// <summary>The name is taken.</summary>
    AlreadyExists,

    /// <summary>Memory, a queue or another bounded resource is full.</summary>
    ResourceExhausted,

    /// <summary>The module is at another generation than the caller expected.</summary>
    Aborted,

    /// <summary>A type or function that PyTorch may know and this host does not.</summary>
    Unimplemented,

    /// <summary>A digest differs.</summary>
    DataLoss,

    /// <summary>The host is starting or draining; a retry is safe.</summary>
    Unavailable,

    /// <summary>The caller sent too slowly, or a deadline of the host passed.</summary>
    DeadlineExceeded,

    /// <summary>A bug, or a failure of libtorch that no check foresaw.</summary>
    Internal,
}

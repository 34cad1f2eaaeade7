using Sconce.Client.Internal;

namespace Sconce.Client;

/// <summary>INVALID_ARGUMENT: the request is wrong, whatever the server's state. <see cref="SconceException.Fields"/> says where.</summary>
public sealed class SconceInvalidArgumentException : SconceException
{
    internal SconceInvalidArgumentException(ErrorDetails details, Exception? inner)
        : base(details, inner)
    {
    }
}

/// <summary>
/// NOT_FOUND: no such module, path, optimizer, graph, tensor or session. <see cref="SconceException.Resource"/> names it.
/// </summary>
public sealed class SconceNotFoundException : SconceException
{
    internal SconceNotFoundException(ErrorDetails details, Exception? inner)
        : base(details, inner)
    {
    }
}

/// <summary>ALREADY_EXISTS: the name is taken.</summary>
public sealed class SconceAlreadyExistsException : SconceException
{
    internal SconceAlreadyExistsException(ErrorDetails details, Exception? inner)
        : base(details, inner)
    {
    }
}

/// <summary>FAILED_PRECONDITION: the server's state forbids the call, e.g. a graph that was used, or a device it lacks.</summary>
public sealed class SconceFailedPreconditionException : SconceException
{
    internal SconceFailedPreconditionException(ErrorDetails details, Exception? inner)
        : base(details, inner)
    {
    }
}

/// <summary>
/// ABORTED: the module is at another generation than <see cref="CallSettings.IfGeneration"/> asked for. Nothing happened.
/// </summary>
public sealed class SconceStaleGenerationException : SconceException
{
    internal SconceStaleGenerationException(ErrorDetails details, Exception? inner)
        : base(details, inner)
    {
    }
}

/// <summary>
/// ABORTED: the server has started anew since it was the one that <see cref="CallSettings.IfInstance"/>, or a <see cref="TrainStream"/>, was bound
/// to. Nothing happened. What was acknowledged after the last snapshots is lost: <see cref="Sconce.V1.Module.DurableSteps"/> tells from where to
/// repeat.
/// </summary>
public sealed class SconceServerRestartedException : SconceException
{
    internal SconceServerRestartedException(ErrorDetails details, Exception? inner)
        : base(details, inner)
    {
    }
}

/// <summary>
/// RESOURCE_EXHAUSTED: memory, a budget, a message size, or (with <see cref="SconceException.RetryAfter"/>) a full queue.
/// </summary>
public sealed class SconceResourceExhaustedException : SconceException
{
    internal SconceResourceExhaustedException(ErrorDetails details, Exception? inner)
        : base(details, inner)
    {
    }
}

/// <summary>UNAVAILABLE: no server answered, or it is starting or draining, and the retries that the options allow are used up.</summary>
public sealed class SconceUnavailableException : SconceException
{
    internal SconceUnavailableException(ErrorDetails details, Exception? inner)
        : base(details, inner)
    {
    }
}

/// <summary>DEADLINE_EXCEEDED: no answer within <see cref="SconceClientOptions.Timeout"/> or <see cref="CallSettings.Timeout"/>.</summary>
public sealed class SconceDeadlineExceededException : SconceException
{
    internal SconceDeadlineExceededException(ErrorDetails details, Exception? inner)
        : base(details, inner)
    {
    }
}

/// <summary>The server speaks another version of the contract than this client: update one of them.</summary>
public sealed class SconceContractException : SconceException
{
    internal SconceContractException(ErrorDetails details, Exception? inner)
        : base(details, inner)
    {
    }
}

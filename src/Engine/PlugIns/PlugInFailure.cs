using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using TorchSharp;

namespace Sconce.Engine.PlugIns;

/// <summary>Makes errors of what a plug-in's code throws. What a caller may read is told; the rest goes to the log alone.</summary>
internal static partial class PlugInFailure
{
    /// <summary>Where details go. One for the process, as the plug-ins are.</summary>
    public static ILogger Log { get; set; } = NullLogger.Instance;

    /// <summary>A class that breaks a rule: what is wrong, and the cure.</summary>
    public static EngineException Refused(string type, string reason) =>
        EngineException.Precondition("PLUG_IN_REFUSED", $"the plug-in type {type} cannot be used: {reason}", new ResourceRef("module type", type));

    /// <summary>The error for an exception of a constructor.</summary>
    /// <param name="exception">What was thrown.</param>
    /// <param name="type">The plug-in type.</param>
    /// <param name="field">Path of the arguments in the request.</param>
    /// <param name="parameters">Names of the constructor's parameters.</param>
    public static EngineException OfConstructor(Exception exception, string type, string field, IEnumerable<string> parameters)
    {
        switch (exception)
        {
            case EngineException known:
                return known;
            case ArgumentException { ParamName: { } name } argument when parameters.Contains(name):
                // The author's own check of an argument: its text is meant for whoever gave it.
                return EngineException.Invalid($"{field}.{name}", FirstLine(argument), "BAD_ARGUMENT");
            case ExternalException or ArgumentException:
                return CallFailure.Translate(exception, $"building {type}", [], field);
            case InvalidOperationException when IsTorchSharps(exception):
                // "Parameter weight is already registered": a rule of nn.Module, not a secret of the plug-in.
                return Refused(type, $"its constructor failed in TorchSharp: {FirstLine(exception)}");
            default:
                return Unexpected(exception, $"the constructor of the plug-in type {type}");
        }
    }

    /// <summary>The error for an exception of a call.</summary>
    /// <param name="exception">What was thrown.</param>
    /// <param name="callee">The module whose code threw, for the message.</param>
    /// <param name="inputs">What it was called with.</param>
    /// <param name="field">The field of the request to blame.</param>
    public static EngineException OfCall(Exception exception, string callee, IReadOnlyList<TensorTree> inputs, string field) => exception switch
    {
        EngineException known => known,
        ExternalException or ArgumentException and not ArgumentNullException => CallFailure.Translate(exception, callee, inputs, field),
        _ => Unexpected(exception, callee),
    };

    /// <summary>The error for what no rule foresaw: a bug of the plug-in, whose text is for its operator.</summary>
    public static EngineException Unexpected(Exception exception, string what)
    {
        Threw(Log, exception, what);
        return new EngineException(EngineError.FailedPrecondition, "PLUG_IN_FAILED", $"{what} failed: the plug-in threw {exception.GetType().Name}; the server's log has the rest", exception);
    }

    private static bool IsTorchSharps(Exception exception) => exception.Source == typeof(torch).Assembly.GetName().Name;

    private static string FirstLine(Exception exception)
    {
        var message = CallFailure.Cause(exception);

        // ArgumentException appends the parameter's name, which the field says already.
        var end = message.IndexOf(" (Parameter '", StringComparison.Ordinal);
        return end < 0 ? message : message[..end];
    }

    [LoggerMessage(1201, LogLevel.Error, "{What} threw")]
    private static partial void Threw(ILogger logger, Exception exception, string what);
}

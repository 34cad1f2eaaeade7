namespace Sconce.Server;

/// <summary>How log lines are written.</summary>
public enum LogFormat
{
    /// <summary>One readable line for each event.</summary>
    Text,

    /// <summary>One JSON object for each event, in Serilog's compact form.</summary>
    Json,
}

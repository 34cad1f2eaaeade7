namespace Sconce.Server;

/// <summary>Settings that the server cannot start with; the message names each, what it is and what it must be.</summary>
public sealed class ConfigurationException : Exception
{
    /// <summary>Creates an exception.</summary>
    /// <param name="problems">What is wrong, one sentence each; at least one.</param>
    public ConfigurationException(IReadOnlyList<string> problems)
        : base(string.Join(Environment.NewLine, problems)) => Problems = problems;

    /// <summary>What is wrong, one sentence each.</summary>
    public IReadOnlyList<string> Problems { get; }
}

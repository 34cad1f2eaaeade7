namespace Sconce.Cli;

/// <summary>The command cannot be done as it was given: a bad option value or a local file that is not what it should be. Exit code 2.</summary>
internal sealed class UsageException : Exception
{
    public UsageException(string message) : base(message)
    {
    }

    public UsageException(string message, Exception inner) : base(message, inner)
    {
    }
}

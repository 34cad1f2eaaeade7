namespace Sconce.Engine.Execution;

/// <summary>libtorch or TorchSharp's native half cannot be loaded on this host.</summary>
/// <remarks>The message has two lines: what is missing, and how to mend it. It is meant to be shown to the operator as it is.</remarks>
public sealed class TorchLoadException : Exception
{
    /// <summary>Makes the two-line message.</summary>
    /// <param name="problem">What is missing, one line.</param>
    /// <param name="remedy">What to do about it, one line.</param>
    /// <param name="cause">What the runtime said, for the log.</param>
    public TorchLoadException(string problem, string remedy, Exception? cause = null)
        : base($"{problem}\n{remedy}", cause)
    {
    }
}

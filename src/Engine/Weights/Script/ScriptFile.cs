namespace Sconce.Engine.Weights.Script;

/// <summary>A TorchScript file that has been checked and tried, in memory: modules are made of it as often as asked.</summary>
/// <param name="Name">What callers call it, for messages.</param>
/// <param name="Image">Its content.</param>
/// <param name="Program">What its code says.</param>
/// <param name="IsStateful">Whether calls may draw random numbers, or change what the module keeps, in eval mode too.</param>
internal sealed record ScriptFile(string Name, ScriptImage Image, ScriptProgram Program, bool IsStateful) : IDisposable
{
    /// <summary>Sees calls that never end; null where nobody does.</summary>
    public ScriptWatch? Watch { get; init; }

    /// <inheritdoc/>
    public void Dispose() => Image.Dispose();
}

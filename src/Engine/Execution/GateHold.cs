namespace Sconce.Engine.Execution;

/// <summary>Holds a module's gate without running anything, for calls that need several modules at once. Holds are taken in the order of the modules' names, so that two such calls
/// cannot wait for each other.</summary>
internal sealed class GateHold(Func<GateMode> mode) : LaneWork<bool>, IDisposable
{
    internal override GateMode Mode => mode();

    private protected override bool Stays => true;

    /// <summary>Waits for a gate.</summary>
    /// <param name="gate">The gate.</param>
    /// <param name="mode">How to hold it; asked when its turn comes.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public static async Task<GateHold> TakeAsync(Gate gate, Func<GateMode> mode, CancellationToken cancellationToken)
    {
        var hold = new GateHold(mode);
        hold.Enter(gate, cancellationToken);
        await hold.Task.ConfigureAwait(false);
        return hold;
    }

    /// <summary>Lets the next call in.</summary>
    public void Dispose() => Leave();

    protected override bool Execute() => true;
}

namespace Sconce.Engine.Execution;

/// <summary>
/// Learns from the forwards of a module up to which size of input they are short enough to run on the caller's thread. A wrong guess (another
/// shape of the same size, a thread that was put aside) costs one longer call there, or one hand-over to a lane, and is corrected by it.
/// </summary>
internal sealed class ShortForwards(string device)
{
    /// <summary>Short is what costs less than a few hand-overs to a lane and back. Network threads must not be held for longer.</summary>
    public static readonly TimeSpan Limit = TimeSpan.FromMicroseconds(100);

    // A GPU's stream belongs to the lanes.
    private readonly bool _possible = device == "cpu";

    // Nothing is known at first, so the first forward goes to a lane. Readers and writers may race: every value is a fair guess.
    private long _bytes = -1;

    /// <summary>Whether a forward with this many bytes of input should be short.</summary>
    public bool Holds(long bytes) => _possible && bytes <= Volatile.Read(ref _bytes);

    /// <summary>Takes in how long one took.</summary>
    public void Ran(long bytes, TimeSpan time)
    {
        var known = Volatile.Read(ref _bytes);
        if (time > Limit)
        {
            if (bytes <= known)
            {
                Volatile.Write(ref _bytes, bytes - 1);
            }
        }
        else if (bytes > known)
        {
            Volatile.Write(ref _bytes, bytes);
        }
    }
}

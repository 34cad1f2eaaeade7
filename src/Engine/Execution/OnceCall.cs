namespace Sconce.Engine.Execution;

/// <summary>
/// A call that is to be done once, however often it is sent: outside of the engine its answer is remembered, and given to those who repeat it. Inside, it is noted on the
/// module that it changes, in the module's turn, so that a snapshot holds exactly the calls whose effects it holds.
/// </summary>
/// <remarks>What remembers answers derives from it. Members that are called by the engine may be called from any thread.</remarks>
public abstract class OnceCall
{
    // Else every method of a module that changes it would carry the call that it is made by. Only a call with an id pays for it.
    private static readonly AsyncLocal<OnceCall?> Ambient = new();

    private volatile bool _isDone;

    /// <summary>Whether it has changed its module: whatever it answers, it must not be done again.</summary>
    public bool IsDone => _isDone;

    /// <summary>Ends, never with an exception, when it is known how the call ended. That must not wait for a snapshot of the module that the call changes.</summary>
    protected internal abstract Task Ended { get; }

    /// <summary>Whether an answer is remembered, be it an error. It is not where the call may as well be made anew. Asked after <see cref="Ended"/>.</summary>
    protected internal abstract bool IsRemembered { get; }

    /// <summary>The answer, for a snapshot. Asked where there is one.</summary>
    protected internal abstract RememberedCall Remember();

    /// <summary>The call in which this is asked; null where it has no id.</summary>
    internal static OnceCall? Current => Ambient.Value;

    /// <summary>Where it is noted. Belongs to <see cref="OnceCalls"/>.</summary>
    internal LinkedListNode<OnceCall>? Node { get; set; }

    /// <summary>Whether its answer was forgotten, or is never to be. Belongs to <see cref="OnceCalls"/>.</summary>
    internal bool IsForgotten { get; set; }

    /// <summary>Whether it has its module's turn. Belongs to <see cref="OnceCalls"/>.</summary>
    internal bool IsInTurn { get; set; }

    /// <summary>Runs what does the call: what the engine is asked within it is this call's.</summary>
    /// <typeparam name="T">The answer.</typeparam>
    /// <param name="work">The call. It is started before this returns.</param>
    public async Task<T> RunAsync<T>(Func<Task<T>> work)
    {
        ArgumentNullException.ThrowIfNull(work);

        // It ends with this method: what an async method sets is unknown to its caller.
        Ambient.Value = this;
        return await work().ConfigureAwait(false);
    }

    /// <summary>Runs a part of a call that is not to be noted: it changes something that no snapshot holds, or nothing yet.</summary>
    internal static async Task ApartAsync(Func<Task> work)
    {
        Ambient.Value = null;
        await work().ConfigureAwait(false);
    }

    /// <summary>It has changed its module.</summary>
    internal void Done() => _isDone = true;

    /// <summary>Its answer is remembered no longer: no snapshot holds it from now on.</summary>
    protected void Forget() => OnceCalls.Forget(this);

    /// <summary>Its answer is never to be remembered. Where it has changed its module all the same, or still does, there is no snapshot of that.</summary>
    protected void Abandon() => OnceCalls.Abandon(this);
}

/// <summary>A call with its answer, as a snapshot holds it.</summary>
/// <param name="Id">Its id, chosen by its caller.</param>
/// <param name="Fingerprint">Tells it from others: text that whoever remembers it has made.</param>
/// <param name="Answer">What kind of answer it got, e.g. the name of a message's type.</param>
/// <param name="Content">The answer. The engine does not look inside.</param>
public sealed record RememberedCall(string Id, string Fingerprint, string Answer, ReadOnlyMemory<byte> Content);

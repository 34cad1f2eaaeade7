using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Training;

/// <summary>
/// Random numbers of one module. libtorch has one CPU generator per process: a module with a stream of its own has it swapped in while it
/// draws, and draws happen one at a time. Without a stream of its own it draws from the process's.
/// </summary>
public sealed class RandomStream : IDisposable
{
    private static readonly Lock Drawing = new();
    private Tensor? _state;

    /// <summary>Whether it has been seeded.</summary>
    public bool IsOwn => _state is not null;

    /// <summary>Seeds the process's generator (<c>torch.manual_seed</c>).</summary>
    /// <param name="seed">The seed; a negative one counts from 2^64.</param>
    public static void SeedProcess(long seed)
    {
        lock (Drawing)
        {
            using var generator = random.manual_seed(seed);
        }
    }

    /// <summary>Seeds it; from then on it is the module's own. The process's generator is not touched.</summary>
    /// <param name="seed">The seed; the numbers are those of <c>torch.manual_seed(seed)</c>.</param>
    public void Seed(long seed)
    {
        using var generator = new Generator(unchecked((ulong)seed), CPU);
        lock (Drawing)
        {
            Keep(generator.get_state());
        }
    }

    /// <summary>The state from which the next draw comes: its own, or the process's where it has none. In the caller's dispose scope.</summary>
    internal Tensor Snapshot()
    {
        lock (Drawing)
        {
            return _state?.clone() ?? random.get_rng_state();
        }
    }

    /// <summary>Goes on from a state that <see cref="Snapshot"/> gave; from then on it is the module's own.</summary>
    /// <param name="state">The state; copied.</param>
    /// <exception cref="EngineException">It is no state of this libtorch's generator, which would end the process.</exception>
    internal void Restore(Tensor state)
    {
        lock (Drawing)
        {
            using var expected = random.get_rng_state();
            if (state.dtype != expected.dtype || !state.shape.AsSpan().SequenceEqual(expected.shape))
            {
                throw EngineException.Precondition("SNAPSHOT_MISMATCH",
                    $"the state of a random generator is {expected.numel()} bytes here, and {state.numel()} elements of {state.dtype.ToElementType().Name()} were saved: by another libtorch");
            }

            Keep(state.clone());
        }
    }

    /// <summary>Runs what may draw.</summary>
    /// <param name="draw">The work.</param>
    /// <returns>What it returned.</returns>
    public T Run<T>(Func<T> draw)
    {
        ArgumentNullException.ThrowIfNull(draw);

        // Work within such work (a step inside a closure) draws on from where it is.
        if (Drawing.IsHeldByCurrentThread)
        {
            return draw();
        }

        lock (Drawing)
        {
            if (_state is null)
            {
                return draw();
            }

            using var processState = random.get_rng_state();
            random.set_rng_state(_state);
            try
            {
                return draw();
            }
            finally
            {
                Keep(random.get_rng_state());
                random.set_rng_state(processState);
            }
        }
    }

    /// <summary>Runs what may draw.</summary>
    /// <param name="draw">The work.</param>
    public void Run(Action draw) => Run(() =>
    {
        draw();
        return true;
    });

    /// <summary>Runs what draws numbers that nobody wants (TorchSharp's constructors), and leaves the generator as it was.</summary>
    /// <param name="work">The work.</param>
    /// <returns>What it returned.</returns>
    internal static T RunUndisturbed<T>(Func<T> work)
    {
        // The lock: another thread's draws in between would be drawn again.
        lock (Drawing)
        {
            using var state = random.get_rng_state();
            try
            {
                return work();
            }
            finally
            {
                random.set_rng_state(state);
            }
        }
    }

    /// <summary>Frees its state.</summary>
    public void Dispose()
    {
        lock (Drawing)
        {
            _state?.Dispose();
            _state = null;
        }
    }

    private void Keep(Tensor state)
    {
        _state?.Dispose();
        _state = state.DetachFromDisposeScope();
    }
}

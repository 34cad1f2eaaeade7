using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace Sconce.Engine.Tests.Weights.Fuzz;

/// <summary>
/// Runs a reader on many spoiled files. Whatever it is given, it may only work or throw an <see cref="EngineException"/>, in less than a second and less than
/// 256 MB. Inputs depend on seed and number alone, so that what fails can be made again: <c>SCONCE_FUZZ_SEED</c> is the seed, 0 where it is not set, and
/// <c>SCONCE_FUZZ_EXECUTIONS</c> how many there are.
/// </summary>
internal sealed class FuzzRun
{
    /// <summary>How many executions a soak asks for; a test has its own, smaller number.</summary>
    public const string CountVariable = "SCONCE_FUZZ_EXECUTIONS";

    /// <summary>Which inputs are made.</summary>
    public const string SeedVariable = "SCONCE_FUZZ_SEED";

    /// <summary>From this many on it is a soak: it has the machine to itself, and the process's memory can be told from others'.</summary>
    private const int Soak = 200_000;

    private const long MostBytes = 256_000_000;
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(1);

    private readonly SortedDictionary<string, long> _outcomes = new(StringComparer.Ordinal);

    private FuzzRun(int executions, int usual) => (Executions, IsFull) = (executions, executions >= usual);

    /// <summary>How many executions there were.</summary>
    public int Executions { get; }

    /// <summary>Whether they were as many as a test has, so that all that it looks for must have come.</summary>
    public bool IsFull { get; }

    /// <summary>How many executions ended how: <c>accepted</c>, or the reason of the error.</summary>
    public IReadOnlyDictionary<string, long> Outcomes => _outcomes;

    /// <summary>Longest execution.</summary>
    public TimeSpan Longest { get; private set; }

    /// <summary>Most managed bytes that one execution allocated.</summary>
    public long MostManaged { get; private set; }

    /// <summary>Runs.</summary>
    /// <param name="usual">How many, unless SCONCE_FUZZ_EXECUTIONS says.</param>
    /// <param name="make">Makes an input.</param>
    /// <param name="read">Opens and reads it, and gives back the native bytes that this took.</param>
    public static FuzzRun Run(int usual, Func<Random, byte[]> make, Func<byte[], int, long> read)
    {
        var (executions, seed) = (Setting(CountVariable, usual), Setting(SeedVariable, 0));
        var run = new FuzzRun(executions, usual);
        var began = Stopwatch.GetTimestamp();
        long warm = 0, most = 0;
        for (var i = 0; i < executions; i++)
        {
            run.Execute(make(new Random(unchecked((seed * 1_000_003) + i))), i, read);
            if (i % 10_000 == 9_999)
            {
                most = Math.Max(most, Environment.WorkingSet);
                warm = warm == 0 ? most : warm;
            }
        }

        TestContext.Current.TestOutputHelper?.WriteLine(
            $"{executions} executions in {Stopwatch.GetElapsedTime(began).TotalSeconds:0.0} s; longest {run.Longest.TotalMilliseconds:0.0} ms; most managed {run.MostManaged} bytes; resident {warm >> 20} to {most >> 20} MiB; "
            + string.Join(", ", run._outcomes.Select(outcome => $"{outcome.Key} {outcome.Value}")));
        Assert.True(executions < Soak || most - warm < MostBytes, $"the process grew from {warm} to {most} bytes");
        return run;
    }

    private static int Setting(string name, int otherwise) =>
        Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? int.Parse(value, CultureInfo.InvariantCulture) : otherwise;

    private void Execute(byte[] input, int number, Func<byte[], int, long> read)
    {
        var allocated = GC.GetAllocatedBytesForCurrentThread();
        var began = Stopwatch.GetTimestamp();
        var native = 0L;
        string outcome;
        try
        {
            native = read(input, number);
            outcome = "accepted";
        }
        catch (EngineException error) when (error.Error != EngineError.Internal)
        {
            outcome = error.Reason;
        }
        catch (Exception error)
        {
            throw new InvalidOperationException($"input {number} gets {error.GetType().Name}: {error.Message}\n{Convert.ToBase64String(input)}\n{Encoding.Latin1.GetString(input)}", error);
        }

        var took = Stopwatch.GetElapsedTime(began);
        allocated = GC.GetAllocatedBytesForCurrentThread() - allocated;
        _outcomes[outcome] = _outcomes.GetValueOrDefault(outcome) + 1;
        Longest = took > Longest ? took : Longest;
        MostManaged = Math.Max(MostManaged, allocated);
        Assert.True(allocated + native < MostBytes, $"input {number} took {allocated} managed and {native} native bytes: {Convert.ToBase64String(input)}");
        // A machine may stand still for a second; it does not do so thrice at the same input.
        Assert.True(took < Limit || Enumerable.Range(0, 3).Any(_ => Time(input, number, read) < Limit), $"input {number} took {took}: {Convert.ToBase64String(input)}");
    }

    private static TimeSpan Time(byte[] input, int number, Func<byte[], int, long> read)
    {
        var began = Stopwatch.GetTimestamp();
        try
        {
            _ = read(input, number);
        }
        catch (EngineException)
        {
            // That it takes less time is all that is asked.
        }

        return Stopwatch.GetElapsedTime(began);
    }
}

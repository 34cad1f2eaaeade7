using System.Globalization;
using Microsoft.Extensions.Logging.Abstractions;
using Sconce.Engine;
using Sconce.Engine.Snapshots;

// A process with a snapshot store and nothing else, for tests that kill it, fill its disk and fail its system calls. It says on its standard output what it was told is
// durable; a test may kill it right after, so that nothing waits in a buffer.
const string Usage = """
    usage: storechild loop DIRECTORY SEED    save, prune and delete for ever in the modules a and b, each from a thread of its own
           storechild once DIRECTORY BYTES   save one snapshot of module a of that size, then one of a few bytes
           storechild hold DIRECTORY         open the store, say so, and end with the standard input
    """;

switch (args)
{
    case ["loop", var directory, var seed]:
        var looping = Open(directory);
        Parallel.Invoke([.. new[] { "a", "b" }.Select(module => (Action)(() => Loop(looping, module, new Random(Number(seed) * (module[0] + 1)))))]);
        return 0;

    case ["once", var directory, var bytes]:
        using (var store = Open(directory))
        {
            Try(store, Number(bytes));
            Try(store, 10);
        }

        return 0;

    case ["hold", var directory]:
        using (Open(directory))
        {
            Say("open");
            Console.In.ReadToEnd();
        }

        return 0;

    default:
        Console.Error.WriteLine(Usage);
        return 64;
}

static SnapshotStore Open(string directory) => SnapshotStore.Open(directory, TimeProvider.System, NullLogger.Instance);

static int Number(string text) => int.Parse(text, CultureInfo.InvariantCulture);

static void Say(string line)
{
    var bytes = System.Text.Encoding.ASCII.GetBytes(line + "\n");
    using var output = Console.OpenStandardOutput();
    lock (typeof(Program))
    {
        output.Write(bytes);
    }
}

static void Loop(SnapshotStore store, string module, Random random)
{
    while (true)
    {
        if (random.Next(5) == 0 && store.List(module) is [var oldest, _, ..])
        {
            Say($"deleting {module} {oldest.Id}");
            store.Delete(oldest.Id);
            Say($"deleted {module} {oldest.Id}");
        }

        Say($"saved {module} {Save(store, module, random.Next(1, 1 << 14)).Id}");
    }
}

static void Try(SnapshotStore store, int bytes)
{
    try
    {
        Say($"saved a {Save(store, "a", bytes).Id}");
    }
    catch (EngineException exception)
    {
        Say($"failed {exception.Error} {exception.Reason} {exception.Message}");
    }
}

// Two parts, of which each byte is the step's: whoever reads them knows what must be there.
static SnapshotInfo Save(SnapshotStore store, string module, int bytes)
{
    var step = store.List(module) is [.., var last] ? last.Facts.Step + 1 : 1;
    Action<Stream> write = stream =>
    {
        var chunk = new byte[Math.Min(bytes, 1 << 16)];
        Array.Fill(chunk, (byte)step);
        for (var left = bytes; left > 0; left -= chunk.Length)
        {
            stream.Write(chunk, 0, Math.Min(left, chunk.Length));
        }
    };
    return store.Save(module, [new SnapshotPart("first", write), new SnapshotPart("second", write)], new SnapshotFacts(step, step, "request"), keepLast: 3);
}

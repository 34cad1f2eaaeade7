using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using System.IO.Hashing;
using Sconce.Engine.Tensors;
using Sconce.Engine.Weights.TorchZip;

namespace Sconce.Engine.Tests.Weights.TorchZip;

/// <summary>
/// Files of PyTorch, changed at random: whatever a file says, the reader opens it or says what is wrong. <c>SCONCE_FUZZ_EXECUTIONS</c> is how many are tried
/// (20,000 where it is not set), <c>SCONCE_FUZZ_SEED</c> which.
/// </summary>
public sealed class TorchZipFuzzTests
{
    private const int Usual = 20_000;
    private const long MostDense = 1 << 20;

    // Not a bound of speed but of loops: a machine that is busy may stop a thread for long, so that only a file that is slow again and again counts.
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(1);

    // The last of them are refused as they are.
    private const int Refused = 2;

    private static readonly string[] Files = ["dtypes.pt", "shapes.pt", "views.pt", "module.pth", "parameters.pt", "checkpoint.pt", "script.pt", "protocol4.pt"];

    // The opcodes that are taken, so that many mutations of a pickle go on.
    private static readonly byte[] Opcodes = [.. "(.JKMNQRXabce}]hjqrstu)G"u8, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a];

    private static readonly long[] Numbers = [0, 1, 2, 3, 127, 128, 255, 256, 65_535, 65_536, int.MaxValue, uint.MaxValue, (long)uint.MaxValue + 1, long.MaxValue, -1, long.MinValue];

    // What a run must have met, else it leaves a part of the reader out.
    private static readonly HashSet<string> Reasons =
    [
        "NOT_A_TORCH_FILE", "TORCH_ZIP_MALFORMED", "TORCHSCRIPT_ARCHIVE", "PICKLE_PROTOCOL", "PICKLE_MALFORMED", "PICKLE_REFUSED", "STATE_DICT_NOT_FOUND", "TENSOR_MALFORMED", "INVALID_ARGUMENT",
        "CRC_MISMATCH", "TORCH_ZIP_LIMIT",
    ];

    [Fact]
    public void Changed_files_are_read_or_refused_and_nothing_else()
    {
        var executions = Setting("SCONCE_FUZZ_EXECUTIONS", Usual);
        var seed = Setting("SCONCE_FUZZ_SEED", 1);
        var seeds = Files.Select(TorchZipFixtures.Bytes).ToArray();
        var (tally, slowest) = (new Tally(), TimeSpan.Zero);

        // Once before it is timed: it loads libtorch.
        _ = TryOne(seeds[0], new Tally());
        for (var i = 0; i < executions; i++)
        {
            var random = new Random(unchecked((seed * 1_000_003) + i));
            var file = Mutated(seeds, random);
            try
            {
                var took = TryOne(file, tally);
                for (var again = 0; took > Limit && again < 3; again++)
                {
                    took = TimeSpan.FromTicks(Math.Min(took.Ticks, TryOne(file, tally).Ticks));
                }

                Assert.True(took < Limit, $"took {took}");
                slowest = took > slowest ? took : slowest;
            }
            catch (Exception exception)
            {
                Assert.Fail($"execution {i} of seed {seed} (SCONCE_FUZZ_SEED): {exception}");
            }
        }

        TestContext.Current.SendDiagnosticMessage($"{executions:N0} executions, slowest {slowest.TotalMilliseconds:N1} ms: {tally}");

        if (executions < Usual)
        {
            return;
        }

        // Else the mutations would all stop at the first check.
        Assert.InRange(tally.Opened, executions / 20, executions);
        Assert.InRange(tally.Read, tally.Opened, int.MaxValue);
        Assert.Superset(Reasons, tally.Reasons);
    }

    private static TimeSpan TryOne(byte[] bytes, Tally tally)
    {
        var watch = Stopwatch.StartNew();
        var allocated = GC.GetAllocatedBytesForCurrentThread();
        var source = new MemorySource(bytes);
        try
        {
            using var file = TorchZipFile.Open(source, bytes.AsSpan().IndexOf("checkpoint/"u8) >= 0 ? "model" : null);
            tally.Opened++;
            for (var i = 0; i < file.Entries.Count; i++)
            {
                // What a caller's ledger does: a tensor is charged by what its entry says before it is read.
                if (TensorLayout.ByteLength(file.Entries[i].Type, file.Entries[i].Shape, default) <= MostDense)
                {
                    ReadOne(file, i, tally);
                }
            }
        }
        catch (EngineException exception)
        {
            tally.Refuse(exception);
        }

        Assert.True(source.IsDisposed);

        // A bound of the whole: all that was allocated, garbage too; a tensor's memory is native, and at most MostDense.
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - allocated, 0, 256L << 20);
        return watch.Elapsed;
    }

    private static void ReadOne(TorchZipFile file, int entry, Tally tally)
    {
        try
        {
            file.Read(entry).Dispose();
            tally.Read++;
        }
        catch (EngineException exception)
        {
            tally.Refuse(exception);
        }
    }

    private static byte[] Mutated(byte[][] seeds, Random random)
    {
        var bytes = seeds[random.Next(random.Next(4) == 0 ? seeds.Length : seeds.Length - Refused)].ToArray();
        return random.Next(10) switch
        {
            0 => Flipped(bytes, 0, bytes.Length, random),
            1 => bytes[..random.Next(bytes.Length)],
            2 => Spliced(bytes, seeds[random.Next(seeds.Length)], random),
            3 => NumberSet(bytes, Tail(bytes), bytes.Length, random),
            4 => Flipped(bytes, Tail(bytes), bytes.Length, random),
            _ => WithPickle(bytes, random),
        };
    }

    // The directory and what ends the file.
    private static int Tail(byte[] bytes) => Math.Max(bytes.AsSpan().IndexOf("PK\u0001\u0002"u8), 0);

    private static byte[] Flipped(byte[] bytes, int from, int to, Random random)
    {
        for (var i = random.Next(4); i >= 0; i--)
        {
            bytes[random.Next(from, to)] ^= (byte)(1 << random.Next(8));
        }

        return bytes;
    }

    private static byte[] NumberSet(byte[] bytes, int from, int to, Random random)
    {
        Span<byte> number = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(number, Numbers[random.Next(Numbers.Length)]);
        number = number[..(1 << random.Next(4))];
        number.CopyTo(bytes.AsSpan(Math.Max(from, random.Next(from, to) - number.Length)));
        return bytes;
    }

    private static byte[] Spliced(byte[] bytes, byte[] other, Random random)
    {
        var (at, from) = (random.Next(bytes.Length), random.Next(other.Length));
        var length = random.Next(Math.Min(64, other.Length - from) + 1);
        return random.Next(2) == 0
            ? [.. bytes[..at], .. other.AsSpan(from, length), .. bytes[at..]]
            : [.. bytes[..at], .. other.AsSpan(from, length), .. bytes[Math.Min(at + length, bytes.Length)..]];
    }

    // A pickle changed and put back with its checksum right, and its length where that stayed.
    private static byte[] WithPickle(byte[] bytes, Random random)
    {
        var record = ZipDirectory.Read(new MemorySource(bytes)).Values.First(one => one.Name.EndsWith("/data.pkl", StringComparison.Ordinal));
        var pickle = bytes.AsSpan((int)record.Offset, (int)record.Length).ToArray();
        for (var i = random.Next(8) / 4; i >= 0; i--)
        {
            var at = random.Next(2, pickle.Length);

            // Mostly numbers: other changes seldom leave a pickle that goes on.
            pickle = random.Next(15) switch
            {
                0 => Flipped(pickle, 2, pickle.Length, random),
                1 => NumberSet(pickle, 2, pickle.Length, random),
                2 => [.. pickle[..at], Opcodes[random.Next(Opcodes.Length)], .. pickle[Math.Min(at + 1, pickle.Length)..]],
                3 => [.. pickle[..at], Opcodes[random.Next(Opcodes.Length)], .. pickle[at..]],
                4 => [.. pickle[..at], .. pickle.AsSpan(random.Next(2, at + 1)..at), .. pickle[at..]],
                _ => Int(pickle, random),
            };
        }

        var parts = ZipDirectory.Read(new MemorySource(bytes)).Values
            .Select(one => new ZipPart(one.Name, one == record ? pickle : bytes.AsSpan((int)one.Offset, (int)one.Length).ToArray()) { Crc = one == record ? Crc32.HashToUInt32(pickle) : one.Crc });
        return new ZipScript { Parts = [.. parts.Where(part => !part.Name.Contains("code/", StringComparison.Ordinal))] }.Bytes();
    }

    // One of the small ints (sizes, strides, offsets) becomes a large one, or one below zero.
    private static byte[] Int(byte[] pickle, Random random)
    {
        var from = random.Next(2, pickle.Length);
        var at = pickle.AsSpan(from).IndexOf((byte)'K');
        if (at < 0 || from + at + 2 > pickle.Length)
        {
            return pickle;
        }

        at += from;
        return [.. pickle[..at], 0x8a, 8, .. ZipScript.U64(Numbers[random.Next(Numbers.Length)]), .. pickle[(at + 2)..]];
    }

    private static int Setting(string name, int otherwise) =>
        Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? int.Parse(value, CultureInfo.InvariantCulture) : otherwise;

    /// <summary>What became of the files.</summary>
    private sealed class Tally
    {
        private readonly SortedDictionary<string, int> _refused = [];

        public int Opened { get; set; }

        public int Read { get; set; }

        public HashSet<string> Reasons => [.. _refused.Keys];

        public void Refuse(EngineException exception) => _refused[exception.Reason] = _refused.GetValueOrDefault(exception.Reason) + 1;

        public override string ToString() => $"{Opened:N0} opened, {Read:N0} tensors read; {string.Join(", ", _refused.Select(reason => $"{reason.Key} {reason.Value:N0}"))}";
    }
}

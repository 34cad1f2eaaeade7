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
    private const long MostDense = 1 << 20;

    // Not a bound of speed but of loops: a machine that is busy may stop a thread for long, so that only a file that is slow again and again counts.
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(1);

    private static readonly string[] Files = ["dtypes.pt", "shapes.pt", "views.pt", "module.pth", "parameters.pt", "checkpoint.pt", "script.pt", "protocol4.pt"];

    // The opcodes that are taken, so that many mutations of a pickle go on.
    private static readonly byte[] Opcodes = [.. "(.JKMNQRXabce}]hjqrstu)G"u8, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a];

    private static readonly long[] Numbers = [0, 1, 2, 3, 127, 128, 255, 256, 65_535, 65_536, int.MaxValue, uint.MaxValue, (long)uint.MaxValue + 1, long.MaxValue, -1, long.MinValue];

    [Fact]
    public void Changed_files_are_read_or_refused_and_nothing_else()
    {
        var executions = Setting("SCONCE_FUZZ_EXECUTIONS", 20_000);
        var seed = Setting("SCONCE_FUZZ_SEED", 1);
        var seeds = Files.Select(TorchZipFixtures.Bytes).ToArray();
        var (opened, read, slowest) = (0, 0, TimeSpan.Zero);
        for (var i = 0; i < executions; i++)
        {
            var random = new Random(unchecked((seed * 1_000_003) + i));
            var file = Mutated(seeds, random);
            try
            {
                var took = TryOne(file, ref opened, ref read);
                for (var again = 0; took > Limit && again < 3; again++)
                {
                    took = TimeSpan.FromTicks(Math.Min(took.Ticks, TryOne(file, ref opened, ref read).Ticks));
                }

                Assert.True(took < Limit, $"took {took}");
                slowest = took > slowest ? took : slowest;
            }
            catch (Exception exception)
            {
                Assert.Fail($"execution {i} of seed {seed} (SCONCE_FUZZ_SEED): {exception}");
            }
        }

        TestContext.Current.SendDiagnosticMessage($"{executions:N0} executions: {opened:N0} opened, {read:N0} tensors read, slowest {slowest.TotalMilliseconds:N1} ms");

        // Else the mutations would all stop at the first check.
        Assert.InRange(opened, executions / 50, executions);
        Assert.InRange(read, opened / 2, int.MaxValue);
    }

    private static TimeSpan TryOne(byte[] bytes, ref int opened, ref int read)
    {
        var watch = Stopwatch.StartNew();
        var allocated = GC.GetAllocatedBytesForCurrentThread();
        var source = new MemorySource(bytes);
        try
        {
            using var file = TorchZipFile.Open(source, bytes.Length % 3 == 0 ? "model" : null);
            opened++;
            for (var i = 0; i < file.Entries.Count; i++)
            {
                // What a caller's ledger does: a tensor is charged by what its entry says before it is read.
                if (TensorLayout.ByteLength(file.Entries[i].Type, file.Entries[i].Shape, default) <= MostDense)
                {
                    ReadOne(file, i, ref read);
                }
            }
        }
        catch (EngineException)
        {
        }

        Assert.True(source.IsDisposed);

        // A bound of the whole: all that was allocated, garbage too; a tensor's memory is native, and at most MostDense.
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - allocated, 0, 256L << 20);
        return watch.Elapsed;
    }

    private static void ReadOne(TorchZipFile file, int entry, ref int read)
    {
        try
        {
            file.Read(entry).Dispose();
            read++;
        }
        catch (EngineException)
        {
        }
    }

    private static byte[] Mutated(byte[][] seeds, Random random)
    {
        var bytes = seeds[random.Next(seeds.Length)].ToArray();
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
        for (var i = random.Next(3); i >= 0; i--)
        {
            var at = random.Next(2, pickle.Length);
            pickle = random.Next(6) switch
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
}

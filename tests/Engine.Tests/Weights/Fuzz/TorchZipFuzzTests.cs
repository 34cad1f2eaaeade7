using System.Buffers.Binary;
using System.IO.Hashing;
using Sconce.Engine.Tensors;
using Sconce.Engine.Tests.Weights.TorchZip;
using Sconce.Engine.Weights.TorchZip;

namespace Sconce.Engine.Tests.Weights.Fuzz;

/// <summary>Files of PyTorch, changed at random: whatever a file says, the reader opens it or says what is wrong.</summary>
public sealed class TorchZipFuzzTests
{
    private const long MostDense = 1 << 20;

    // The last of them are refused as they are.
    private const int Refused = 2;

    private static readonly byte[][] Seeds =
        [.. new[] { "dtypes.pt", "shapes.pt", "views.pt", "module.pth", "parameters.pt", "checkpoint.pt", "script.pt", "protocol4.pt" }.Select(TorchZipFixtures.Bytes)];

    // The opcodes that are taken, so that many mutations of a pickle go on.
    private static readonly byte[] Opcodes = [.. "(.JKMNQRXabce}]hjqrstu)G"u8, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a];

    private static readonly long[] Numbers = [0, 1, 2, 3, 127, 128, 255, 256, 65_535, 65_536, int.MaxValue, uint.MaxValue, (long)uint.MaxValue + 1, long.MaxValue, -1, long.MinValue];

    // What a run must have met, else it leaves a part of the reader out.
    private static readonly string[] Reasons =
    [
        "NOT_A_TORCH_FILE", "TORCH_ZIP_MALFORMED", "TORCHSCRIPT_ARCHIVE", "PICKLE_PROTOCOL", "PICKLE_MALFORMED", "PICKLE_REFUSED", "STATE_DICT_NOT_FOUND", "TENSOR_MALFORMED", "INVALID_ARGUMENT",
        "CRC_MISMATCH", "TORCH_ZIP_LIMIT",
    ];

    [Fact]
    public void Reader_survives_whatever_it_is_given()
    {
        var run = FuzzRun.Run(20_000, Make, Read);

        // Else the mutations would all stop at the first check.
        if (run.IsFull)
        {
            Assert.InRange(run.Outcomes["accepted"], run.Executions / 20, run.Executions);
            Assert.Superset(Reasons.ToHashSet(StringComparer.Ordinal), run.Outcomes.Keys.ToHashSet(StringComparer.Ordinal));
        }
    }

    private static long Read(byte[] bytes, int number)
    {
        var source = new MemorySource(bytes);
        try
        {
            using var file = TorchZipFile.Open(source, bytes.AsSpan().IndexOf("checkpoint/"u8) >= 0 ? "model" : null);
            return ReadAll(file);
        }
        finally
        {
            Assert.True(source.IsDisposed);
        }
    }

    // One tensor that is refused does not keep the others from being read.
    private static long ReadAll(TorchZipFile file)
    {
        var most = 0L;
        EngineException? refused = null;
        for (var i = 0; i < file.Entries.Count; i++)
        {
            try
            {
                // What a caller's ledger does: a tensor is charged by what its entry says before it is read.
                var dense = TensorLayout.ByteLength(file.Entries[i].Type, file.Entries[i].Shape, default);
                if (dense <= MostDense)
                {
                    using var tensor = file.Read(i);
                    most = Math.Max(most, dense);
                }
            }
            catch (EngineException exception)
            {
                refused ??= exception;
            }
        }

        return refused is null ? most : throw refused;
    }

    private static byte[] Make(Random random)
    {
        var bytes = Seeds[random.Next(random.Next(4) == 0 ? Seeds.Length : Seeds.Length - Refused)].ToArray();
        return random.Next(10) switch
        {
            0 or 1 or 2 => ByteMutator.Mutate(random, bytes, Seeds[random.Next(Seeds.Length)]),
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
}

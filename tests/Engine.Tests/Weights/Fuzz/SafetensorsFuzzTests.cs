using System.Buffers.Binary;
using System.Text;
using Sconce.Engine.Execution;
using Sconce.Engine.Tests.Weights.Safetensors;
using Sconce.Engine.Weights.Safetensors;

namespace Sconce.Engine.Tests.Weights.Fuzz;

public sealed class SafetensorsFuzzTests : IDisposable
{
    private static readonly byte[][] Seeds =
    [
        .. new[] { "every-dtype", "any-order", "shapes", "nothing", "written-by-sconce" }.Select(name => File.ReadAllBytes(SafetensorsBytes.Fixture($"{name}.safetensors"))),
        SafetensorsBytes.File("""{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"I16","shape":[1,1],"data_offsets":[2,4]}}""", 4),
    ];

    private readonly string _folder = Directory.CreateTempSubdirectory("sconce-fuzz-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Reader_survives_whatever_it_is_given()
    {
        var run = FuzzRun.Run(20_000, Make, Read);

        // It is deep enough: files that are still right, and nearly every rule.
        if (run.IsFull)
        {
            Assert.InRange(run.Outcomes["accepted"], 100, long.MaxValue);
            Assert.InRange(run.Outcomes.Count, 20, int.MaxValue);
        }
    }

    private static byte[] Make(Random random)
    {
        var file = Seeds[random.Next(Seeds.Length)];
        var other = Seeds[random.Next(Seeds.Length)];
        if (random.Next(3) == 0)
        {
            return ByteMutator.Mutate(random, file, other);
        }

        var length = (int)BinaryPrimitives.ReadInt64LittleEndian(file);
        var header = Encoding.UTF8.GetBytes(JsonMutator.Mutate(random, Encoding.UTF8.GetString(file, 8, length)));
        var data = random.Next(4) == 0 ? file[(8 + length)..][..random.Next(file.Length - 8 - length + 1)] : file[(8 + length)..];
        var made = SafetensorsBytes.File(header, data);
        return random.Next(8) == 0 ? ByteMutator.Mutate(random, made, other) : made;
    }

    private long Read(byte[] input, int number)
    {
        // From a file now and then: it costs more, and differs only in where the bytes come from.
        if (number % 64 != 0)
        {
            using var memory = SafetensorsFile.Open(input, "fuzz");
            return Read(memory, input.Length);
        }

        var path = Path.Combine(_folder, "x");
        File.WriteAllBytes(path, input);
        using var file = SafetensorsFile.Open(path, "fuzz");
        return Read(file, input.Length);
    }

    private static long Read(SafetensorsFile file, int length)
    {
        var bytes = StateUpload.ByteLengths(file.Entries, "entries").Sum();
        Assert.InRange(bytes, 0, length);
        for (var i = 0; i < file.Entries.Count; i++)
        {
            using var tensor = file.Read(i);
            Assert.Equal(file.Entries[i].Shape, tensor.shape);
        }

        // The header is copied too.
        return bytes + length;
    }
}

using System.Globalization;
using Sconce.Cli.Data;
using Sconce.Client;
using Sconce.V1;

namespace Sconce.Cli.Running;

/// <summary>Reads a tensor from what a person writes on a command line: JSON, a file, standard input, or random:SHAPE.</summary>
internal static class TensorSource
{
    public const string Help =
        "JSON such as [[1, 2]]; a file (.json, .npy, idx, or any other as raw bytes with --dtype and --shape); - for JSON on standard input; random:2x3 for normal random numbers.";

    /// <param name="text">What was written.</param>
    /// <param name="dtype">The dtype asked for; null takes the source's own.</param>
    /// <param name="shape">The shape of raw bytes; null for none.</param>
    /// <param name="random">Where random tensors come from.</param>
    /// <param name="input">Reads standard input to its end.</param>
    /// <param name="cancel">Stops reading.</param>
    /// <exception cref="UsageException">It is none of these, or not well formed.</exception>
    public static async Task<TensorData> ReadAsync(string text, DataType? dtype, long[]? shape, Random random, Func<CancellationToken, Task<string>> input, CancellationToken cancel)
    {
        var trimmed = text.TrimStart();
        if (trimmed.StartsWith('[') || (trimmed.Length > 0 && double.TryParse(trimmed, NumberStyles.Float, CultureInfo.InvariantCulture, out _)))
            return TensorJson.Parse(text, dtype, "the input");
        if (text == "-")
            return TensorJson.Parse(await input(cancel).ConfigureAwait(false), dtype, "standard input");
        if (text.StartsWith("random:", StringComparison.Ordinal))
            return Normal(ParseShape(text["random:".Length..]), dtype ?? DataType.Float32, random);
        if (text.EndsWith(".json", StringComparison.Ordinal))
            return TensorJson.Parse(await CommonSymbols.ReadTextAsync(text, cancel).ConfigureAwait(false), dtype, text);
        if (text.EndsWith(".npy", StringComparison.Ordinal) || IdxFile.HasName(text))
        {
            var tensor = ReadArray(text);
            return dtype is null || dtype == tensor.DType ? tensor : throw new UsageException($"{text} holds {tensor}; --dtype converts nothing, so leave it out.");
        }

        if (dtype is null || shape is null)
            throw new UsageException($"'{text}' is no JSON, and as a file of raw bytes it needs --dtype and --shape. An input is {Help}");
        return ReadRaw(text, dtype.Value, shape);
    }

    /// <summary>
    /// An array for training or running: npy as it is; idx images as float32 [count, 1, rows, columns] from 0 to 1, idx labels as int64 [count].
    /// </summary>
    public static TensorData ReadArray(string path)
    {
        if (path.EndsWith(".npy", StringComparison.Ordinal))
            return NpyFile.Read(path);
        if (!IdxFile.HasName(path))
            throw new UsageException($"'{path}' is neither .npy nor idx (-ubyte, -ubyte.gz, .idx, .idx.gz).");
        var idx = IdxFile.Read(path);
        if (idx.Shape.Count == 1)
            return TensorData.Create(Array.ConvertAll(idx.Data, label => (long)label), idx.Shape[0]);
        long[] shape = idx.Shape.Count == 3 ? [idx.Shape[0], 1, idx.Shape[1], idx.Shape[2]] : [.. idx.Shape.Select(size => (long)size)];
        return TensorData.Create(Array.ConvertAll(idx.Data, pixel => pixel / 255f), shape);
    }

    /// <summary>Reads "2x3", "2,3" or "" (a scalar).</summary>
    public static long[] ParseShape(string text)
    {
        if (text.Length == 0)
            return [];
        return Array.ConvertAll(text.Split('x', ','), size => long.TryParse(size, NumberStyles.AllowLeadingWhite, CultureInfo.InvariantCulture, out var value)
            ? value
            : throw new UsageException($"'{text}' is no shape; it must be sizes such as 32x1x28x28."));
    }

    private static TensorData Normal(long[] shape, DataType dtype, Random random)
    {
        Int128 count = 1;
        foreach (var size in shape)
            count *= size;
        if (count > 1 << 26)
            throw new UsageException($"random:{string.Join('x', shape)} has {count} elements; at most {1 << 26} are made here.");
        var values = new double[(int)count];
        for (var i = 0; i < values.Length; i++)
        {
            // Box-Muller; 1 - x keeps the logarithm away from 0.
            values[i] = Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());
        }

        if (dtype is DataType.Float32 or DataType.Float64 or DataType.Float16 or DataType.Bfloat16 or DataType.Complex64 or DataType.Complex128)
            return TensorElements.FromDoubles(dtype, shape, values);
        throw new UsageException($"random: makes floating numbers; --dtype is {DataTypes.NameOf(dtype)}.");
    }

    private static TensorData ReadRaw(string path, DataType dtype, long[] shape)
    {
        try
        {
            return TensorData.FromBytes(dtype, shape, File.ReadAllBytes(path));
        }
        catch (ArgumentException e)
        {
            throw new UsageException($"{path}: {e.Message}", e);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new UsageException($"{path}: there is no such file. An input is {Help}", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UsageException($"{path}: cannot be read: {e.Message}", e);
        }
    }
}

namespace Sconce.Engine.Tests.Weights.Fuzz;

/// <summary>Spoils files without knowing what they are: flipped bits, other bytes, cuts, repeats, and parts of one file in another.</summary>
internal static class ByteMutator
{
    private static readonly byte[] Interesting = [0, 1, 0x20, 0x22, 0x2c, 0x2d, 0x30, 0x5b, 0x5c, 0x5d, 0x7b, 0x7d, 0x7f, 0x80, 0xfe, 0xff];

    /// <summary>A file with one to eight changes; the original is left alone.</summary>
    /// <param name="random">Decides.</param>
    /// <param name="file">The file.</param>
    /// <param name="other">Where parts come from.</param>
    public static byte[] Mutate(Random random, byte[] file, byte[] other)
    {
        var bytes = new List<byte>(file);
        for (var changes = 1 << random.Next(4); changes > 0; changes--)
        {
            Change(random, bytes, other);
        }

        return [.. bytes];
    }

    private static void Change(Random random, List<byte> bytes, byte[] other)
    {
        // Most of what there is to find is near the beginning.
        var at = random.Next(2) == 0 ? random.Next(bytes.Count + 1) : random.Next(Math.Min(bytes.Count, 64) + 1);
        var count = Math.Min(random.Next(1, 1 << random.Next(1, 8)), bytes.Count - at);
        switch (random.Next(8))
        {
            case 0 when at < bytes.Count:
                bytes[at] ^= (byte)(1 << random.Next(8));
                break;
            case 1 when at < bytes.Count:
                bytes[at] = (byte)random.Next(256);
                break;
            case 2 when at < bytes.Count:
                bytes[at] = Interesting[random.Next(Interesting.Length)];
                break;
            case 3:
                bytes.RemoveRange(at, count);
                break;
            case 4:
                bytes.InsertRange(at, bytes.GetRange(at, count));
                break;
            case 5:
                bytes.InsertRange(random.Next(bytes.Count + 1), bytes.GetRange(at, count));
                break;
            case 6 when random.Next(4) == 0:
                bytes.RemoveRange(at, bytes.Count - at);
                break;
            case 7 when other.Length > 0:
                var from = random.Next(other.Length);
                bytes.InsertRange(at, other.AsSpan(from, Math.Min(other.Length - from, random.Next(1, 64))).ToArray());
                break;
            default:
                bytes.Insert(at, Interesting[random.Next(Interesting.Length)]);
                break;
        }
    }
}

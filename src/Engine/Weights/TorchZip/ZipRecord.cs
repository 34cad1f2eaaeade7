namespace Sconce.Engine.Weights.TorchZip;

/// <summary>A record of the archive.</summary>
/// <param name="Name">Its name, the archive's folder included.</param>
/// <param name="Offset">Where its content begins in the file.</param>
/// <param name="Length">Bytes that its content takes.</param>
/// <param name="Crc">CRC-32 that its content must have.</param>
/// <param name="Method">How it is compressed; 0 where it is stored as it is, as all are that are read.</param>
internal sealed record ZipRecord(string Name, long Offset, long Length, uint Crc, int Method)
{
    // Written by any thread, and only ever to true.
    private volatile bool _verified;

    /// <summary>Bytes of its content once unpacked, as the archive says; <see cref="Length"/> where it is stored.</summary>
    public long Size { get; init; }

    /// <summary>Whether its whole content was once found to have the CRC-32: a storage of many views is summed once, not once for each.</summary>
    public bool IsVerified => _verified;

    /// <summary>Compares the checksum of its content.</summary>
    /// <param name="actual">What the content gave.</param>
    /// <exception cref="EngineException">It differs.</exception>
    public void Verify(uint actual)
    {
        if (actual != Crc)
        {
            throw TorchZipErrors.Checksum(Name, Crc, actual);
        }

        _verified = true;
    }
}

namespace Sconce.Engine.Weights.TorchZip;

/// <summary>
/// What a PyTorch file may make the reader hold before a tensor is read. Fixed, not settings: far above what <c>torch.save</c> writes for the largest models,
/// and together below 256 MB whatever the file says.
/// </summary>
internal static class TorchZipLimits
{
    /// <summary>Tensors of one state dict.</summary>
    public const int Tensors = 65_536;

    /// <summary>Records of one archive: one for each storage, and a few that describe it.</summary>
    public const int Records = Tensors + 64;

    /// <summary>Bytes of the zip's central directory.</summary>
    public const int DirectoryBytes = 32 << 20;

    /// <summary>Bytes of a record's name.</summary>
    public const int RecordNameBytes = 1_024;

    /// <summary>Bytes of <c>data.pkl</c>.</summary>
    public const int PickleBytes = 32 << 20;

    /// <summary>Bytes of one string of the pickle.</summary>
    public const int StringBytes = 1 << 20;

    /// <summary>Values on the pickle's stack.</summary>
    public const int Stack = 1 << 17;

    /// <summary>Places of the pickle's memo; <c>torch.save</c> takes about ten for each tensor.</summary>
    public const int Memo = 1 << 20;

    /// <summary>Open marks, and containers within containers.</summary>
    public const int Depth = 128;

    /// <summary>Bytes, estimated, of all values that a pickle makes, garbage too; a tensor takes about one thousand.</summary>
    public const long ValueBytes = 128L << 20;

    /// <summary>Characters of a state dict's key.</summary>
    public const int KeyLength = 1_024;
}

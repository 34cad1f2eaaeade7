namespace Sconce.Engine.Weights.TorchZip;

/// <summary>The errors of this folder. The call that named the file says which one it was.</summary>
internal static class TorchZipErrors
{
    /// <summary>The zip archive breaks a rule.</summary>
    /// <param name="what">Which one, with what was found.</param>
    public static EngineException Malformed(string what) => new(EngineError.InvalidArgument, "TORCH_ZIP_MALFORMED", $"the PyTorch file is malformed: {what}");

    /// <summary>Larger than this reader takes.</summary>
    /// <param name="what">What, how large, and what the limit is.</param>
    public static EngineException Limit(string what) => new(EngineError.InvalidArgument, "TORCH_ZIP_LIMIT", $"the PyTorch file is larger than this server reads: {what}; save it in parts");

    /// <summary>A form of file that PyTorch knows and this reader does not.</summary>
    /// <param name="reason">Reason for machines.</param>
    /// <param name="what">Which one, and what to do instead.</param>
    public static EngineException Unimplemented(string reason, string what) => new(EngineError.Unimplemented, reason, what);

    /// <summary>A checksum differs.</summary>
    /// <param name="record">The record's name.</param>
    /// <param name="expected">What the file says.</param>
    /// <param name="actual">What its content gives.</param>
    public static EngineException Checksum(string record, uint expected, uint actual) => new(EngineError.DataLoss, "CRC_MISMATCH",
        $"record {EngineException.Quote(record)} of the PyTorch file has CRC-32 {actual:x8} where the archive says {expected:x8}: it was damaged after it was written " +
        "(or written with torch.serialization.set_crc32_options(False)); copy or save it again");
}

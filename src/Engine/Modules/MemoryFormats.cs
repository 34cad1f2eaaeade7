using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>How the elements of a tensor lie in memory; the values equal those of <c>MemoryFormat</c> in the contract.</summary>
public enum MemoryFormat
{
    /// <summary>Not given: as it is.</summary>
    None = 0,

    /// <summary><c>torch.contiguous_format</c>: row-major.</summary>
    Contiguous = 1,

    /// <summary><c>torch.channels_last</c>: of 4 dimensions (N, C, H, W), the channels lie together.</summary>
    ChannelsLast = 2,

    /// <summary><c>torch.channels_last_3d</c>: of 5 dimensions (N, C, D, H, W), the channels lie together.</summary>
    ChannelsLast3d = 3,

    /// <summary><c>torch.preserve_format</c>: as it is.</summary>
    Preserve = 4,
}

/// <summary>PyTorch's memory formats, as <c>nn.Module.to</c> applies them: to tensors of 4 and 5 dimensions only.</summary>
internal static class MemoryFormats
{
    /// <summary>Why a tensor cannot take a format, as PyTorch refuses it; null where it can, or where to() passes it over.</summary>
    public static string? Problem(MemoryFormat format, Tensor tensor) => (format, tensor.dim()) switch
    {
        (MemoryFormat.ChannelsLast, 5) => "has 5 dimensions; channels_last takes 4, and channels_last_3d 5",
        (MemoryFormat.ChannelsLast3d, 4) => "has 4 dimensions; channels_last_3d takes 5, and channels_last 4",
        _ => null,
    };

    /// <summary>Whether a tensor lies as a format wants it, or the format says nothing of it.</summary>
    public static bool Has(Tensor tensor, MemoryFormat format)
    {
        if (tensor.dim() is not (4 or 5) || format is MemoryFormat.None or MemoryFormat.Preserve)
        {
            return true;
        }

        if (format == MemoryFormat.Contiguous)
        {
            return tensor.is_contiguous();
        }

        using var channelsLast = tensor.permute(Last(tensor.dim()));
        return channelsLast.is_contiguous();
    }

    /// <summary>The format of a tensor, for descriptions: contiguous where it is both, none where it is no format at all.</summary>
    public static MemoryFormat Of(Tensor tensor) => tensor.is_contiguous() ? MemoryFormat.Contiguous
        : tensor.dim() is 4 or 5 && Has(tensor, MemoryFormat.ChannelsLast) ? tensor.dim() == 4 ? MemoryFormat.ChannelsLast : MemoryFormat.ChannelsLast3d
        : MemoryFormat.None;

    /// <summary>The tensor in a format, in the caller's dispose scope.</summary>
    public static Tensor Apply(MemoryFormat format, Tensor tensor) => Has(tensor, format) ? tensor
        : format == MemoryFormat.Contiguous ? tensor.contiguous()
        : tensor.permute(Last(tensor.dim())).contiguous().permute(First(tensor.dim()));

    private static long[] Last(long dimensions) => dimensions == 4 ? [0, 2, 3, 1] : [0, 2, 3, 4, 1];

    private static long[] First(long dimensions) => dimensions == 4 ? [0, 3, 1, 2] : [0, 4, 1, 2, 3];
}

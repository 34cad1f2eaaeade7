using static TorchSharp.torch;

namespace Sconce.Engine.Tensors;

/// <summary>Makes tensors of what requests carry.</summary>
internal static class TensorImport
{
    /// <summary>Checks a payload and makes a tensor of it.</summary>
    /// <param name="payload">What the request gave.</param>
    /// <param name="field">Where it stands in the request, for errors.</param>
    /// <param name="mayShare">Whether the tensor may use the payload's own memory: not where something may write to it.</param>
    /// <exception cref="EngineException">The payload is malformed.</exception>
    public static Tensor Import(in TensorPayload payload, in FieldPath field, bool mayShare = true)
    {
        var bytes = TensorLayout.ByteLength(payload.Type, payload.Shape, field);
        var given = payload.Data.Length;
        if (given != bytes)
        {
            throw EngineException.Invalid(field.Child("data"),
                $"has {given:N0} bytes; shape [{string.Join(", ", payload.Shape)}] of {payload.Type.Name()} takes {bytes:N0}", "DATA_LENGTH");
        }

        if (payload.Type == ElementType.Bool)
        {
            TensorLayout.CheckBooleans(payload.Data.Span, field.Child("data"));
        }

        return mayShare ? NativeTensors.Share(payload.Type, payload.Shape, payload.Data) : NativeTensors.Copy(payload.Type, payload.Shape, payload.Data.Span);
    }

    /// <summary>Refuses a tensor that holds a NaN or an infinity.</summary>
    public static void CheckFinite(Tensor tensor, in FieldPath field)
    {
        if (!tensor.is_floating_point() && !tensor.is_complex())
        {
            return;
        }

        using var finite = tensor.isfinite();
        using var all = finite.all();
        if (!all.item<bool>())
        {
            throw EngineException.Invalid(field.ToString(), "holds a NaN or an infinity, which reject_nonfinite refuses", "NOT_FINITE");
        }
    }
}

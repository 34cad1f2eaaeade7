using System.Buffers.Binary;
using System.Reflection;
using System.Reflection.Metadata;
using System.Reflection.Metadata.Ecma335;
using System.Reflection.PortableExecutable;

namespace Sconce.Hardening;

/// <summary>
/// Makes the JIT keep every argument of every method alive until that method returns.
/// </summary>
/// <remarks>
/// TorchSharp reads a raw handle out of a <c>Tensor</c>, <c>Scalar</c> or <c>Module</c> and passes it to native code without a
/// <see cref="GC.KeepAlive"/>. Optimized code considers the object dead from that read on, so a collection during the call runs its
/// finalizer and frees what native code is using. Unoptimized code reports arguments and locals as live for the whole method, and a
/// method that is not inlined keeps its own frame, so the two flags together close the hole in every call.
/// Only the two-byte <c>ImplFlags</c> column of the metadata table is changed, in place: identity, layout and IL stay as shipped.
/// (The file's strong-name signature no longer matches; .NET does not check it.)
/// </remarks>
internal static class KeepArgumentsAlive
{
    private const MethodImplAttributes Wanted = MethodImplAttributes.NoOptimization | MethodImplAttributes.NoInlining;

    // Either of these would argue with the flags above.
    private const MethodImplAttributes Unwanted = MethodImplAttributes.AggressiveOptimization | MethodImplAttributes.AggressiveInlining;

    /// <summary>Changes the image in place and returns the number of method bodies in it.</summary>
    public static int Apply(byte[] image)
    {
        using var portableExecutable = new PEReader(new MemoryStream(image, writable: false));
        var metadata = portableExecutable.GetMetadataReader();
        var table = portableExecutable.PEHeaders.MetadataStartOffset + metadata.GetTableMetadataOffset(TableIndex.MethodDef);
        var rowSize = metadata.GetTableRowSize(TableIndex.MethodDef);
        var rows = metadata.GetTableRowCount(TableIndex.MethodDef);
        var bodies = 0;
        for (var row = 0; row < rows; row++)
        {
            // ECMA-335 II.22.26: RVA (4 bytes), ImplFlags (2), Flags (2), ... A row without an address is abstract or a P/Invoke.
            var entry = image.AsSpan(table + row * rowSize, 6);
            if (BinaryPrimitives.ReadInt32LittleEndian(entry) == 0)
                continue;

            var flags = (MethodImplAttributes)BinaryPrimitives.ReadUInt16LittleEndian(entry[4..]);
            BinaryPrimitives.WriteUInt16LittleEndian(entry[4..], (ushort)((flags & ~Unwanted) | Wanted));
            bodies++;
        }

        return bodies;
    }
}

using System.Buffers.Binary;
using System.Text;

namespace Sconce.Hardening;

/// <summary>
/// Sets VER_FLG_WEAK on one version need of a 64-bit little-endian ELF library, which tells the dynamic loader to go on when the
/// library that should define that version does not. Nothing else in the file changes.
/// </summary>
internal static class WeakVersionNeed
{
    private const uint VersionNeedSection = 0x6ffffffe; // SHT_GNU_verneed
    private const ushort WeakFlag = 0x2;                // VER_FLG_WEAK

    /// <summary>Changes the library in place.</summary>
    /// <exception cref="InvalidDataException">The file is not such a library, or it has no such version need.</exception>
    public static void Apply(byte[] library, string version)
    {
        try
        {
            // e_ident: magic, ELFCLASS64, ELFDATA2LSB.
            if (!library.AsSpan(0, 6).SequenceEqual((ReadOnlySpan<byte>)[0x7f, (byte)'E', (byte)'L', (byte)'F', 2, 1]))
                throw new InvalidDataException("the native library is not a 64-bit little-endian ELF file");

            var flags = FlagsOffset(library, version)
                ?? throw new InvalidDataException($"the native library has no version need {version}: was TorchSharp upgraded? "
                    + "Then this cure may no longer be needed (see docs/decisions/0001-hardened-torchsharp.md)");
            BinaryPrimitives.WriteUInt16LittleEndian(library.AsSpan(flags), (ushort)(U16(library, flags) | WeakFlag));
        }
        catch (ArgumentOutOfRangeException)
        {
            throw new InvalidDataException("the native library is truncated");
        }
    }

    private static int? FlagsOffset(byte[] elf, string version)
    {
        var sections = Offset(elf, 0x28);                          // e_shoff
        int sectionSize = U16(elf, 0x3a), count = U16(elf, 0x3c);  // e_shentsize, e_shnum
        for (var i = 0; i < count; i++)
        {
            var section = sections + i * sectionSize;
            if (U32(elf, section + 4) != VersionNeedSection)       // sh_type
                continue;

            var strings = Offset(elf, sections + (int)U32(elf, section + 40) * sectionSize + 24);  // the sh_link section's sh_offset
            var need = Offset(elf, section + 24);                  // sh_offset
            for (var more = U32(elf, section + 44); more > 0; more--, need += (int)U32(elf, need + 12))  // sh_info entries, vn_next
            {
                var entry = need + (int)U32(elf, need + 8);        // vn_aux
                for (int left = U16(elf, need + 2); left > 0; left--, entry += (int)U32(elf, entry + 12))  // vn_cnt, vna_next
                    if (IsString(elf, strings + (int)U32(elf, entry + 8), version))  // vna_name
                        return entry + 4;                          // vna_flags
            }
        }

        return null;
    }

    private static bool IsString(byte[] elf, int offset, string expected) =>
        elf.AsSpan(offset).StartsWith(Encoding.ASCII.GetBytes(expected + '\0'));

    private static ushort U16(byte[] elf, int offset) => BinaryPrimitives.ReadUInt16LittleEndian(elf.AsSpan(offset));

    private static uint U32(byte[] elf, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(elf.AsSpan(offset));

    private static int Offset(byte[] elf, int offset) =>
        BinaryPrimitives.ReadUInt64LittleEndian(elf.AsSpan(offset)) is var value && value <= int.MaxValue
            ? (int)value
            : throw new InvalidDataException("the native library is truncated");
}

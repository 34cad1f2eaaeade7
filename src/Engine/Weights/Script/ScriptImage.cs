using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Sconce.Engine.Weights.Script;

/// <summary>
/// A checked TorchScript file in memory of its own that nobody can change any more, this process included (a sealed memfd): what the trial loads is, byte for byte, what the server loads after it, whatever
/// becomes of the file. It takes the file's length in memory, until it is disposed.
/// </summary>
internal sealed partial class ScriptImage : IDisposable
{
    private const int CloseOnExec = 1;
    private const int AllowSealing = 2;
    private const int AddSeals = 1033;
    private const int SealSealShrinkGrowWrite = 1 | 2 | 4 | 8;
    private const int Piece = 1 << 20;

    private readonly SafeFileHandle _file;

    private ScriptImage(SafeFileHandle file, long length) => (_file, Length) = (file, length);

    /// <summary>Bytes of it.</summary>
    public long Length { get; }

    /// <summary>A path by which this process and its children can open it.</summary>
    public string Path => $"/proc/{Environment.ProcessId}/fd/{_file.DangerousGetHandle()}";

    /// <summary>Makes one of an archive.</summary>
    /// <param name="archive">It; every tensor is read, and checked against its CRC-32.</param>
    /// <exception cref="EngineException">The file is damaged, or there is no room for it.</exception>
    public static ScriptImage Of(ScriptArchive archive) => Make(archive.Length, archive.Write);

    /// <summary>Copies a file, so that what was looked at is what is read after.</summary>
    /// <param name="source">It; not disposed.</param>
    /// <param name="seen">Is given all of it, piece by piece.</param>
    /// <exception cref="EngineException">The file cannot be read, or there is no room for it.</exception>
    public static ScriptImage CopyOf(ByteSource source, Action<ReadOnlySpan<byte>> seen) => Make(source.Length, stream =>
    {
        var piece = new byte[(int)Math.Min(Piece, source.Length)];
        for (var at = 0L; at < source.Length; at += piece.Length)
        {
            var part = piece.AsSpan(0, (int)Math.Min(piece.Length, source.Length - at));
            source.ReadExactly(part, at);
            seen(part);
            stream.Write(part);
        }
    });

    /// <summary>Its bytes, for as long as this is there.</summary>
    public ByteSource Read() => ByteSource.Of(_file);

    private static ScriptImage Make(long length, Action<Stream> write)
    {
        SafeFileHandle? file = null;
        try
        {
            var number = memfd_create("sconce-script", CloseOnExec | AllowSealing);
            file = number >= 0 ? new SafeFileHandle(number, ownsHandle: true) : throw new IOException(Marshal.GetLastPInvokeErrorMessage());
            using (var stream = new FileStream(new SafeFileHandle(number, ownsHandle: false), FileAccess.Write, bufferSize: 1 << 16))
            {
                write(stream);
            }

            return fcntl(number, AddSeals, SealSealShrinkGrowWrite) == 0 ? new ScriptImage(file, length) : throw new IOException(Marshal.GetLastPInvokeErrorMessage());
        }
        catch (IOException exception)
        {
            file?.Dispose();
            throw new EngineException(EngineError.ResourceExhausted, "SCRIPT_NO_ROOM", $"there is no room for the {length:N0} bytes of the TorchScript file in the server's memory", exception);
        }
        catch
        {
            file?.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int memfd_create(string name, uint flags);

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int fcntl(int file, int command, int argument);
}

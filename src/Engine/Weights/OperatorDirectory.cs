using System.Text;
using Microsoft.Win32.SafeHandles;
using Sconce.Engine.Storage;

namespace Sconce.Engine.Weights;

/// <summary>
/// A directory that the operator named, in which callers name files: relative names only, that lead nowhere else, whatever links there are. Errors tell a file's name in
/// it, never the directory's path.
/// </summary>
/// <param name="path">Its absolute path.</param>
/// <param name="disk">What it is written by.</param>
/// <param name="hint">What to do where a file is not there.</param>
internal sealed class OperatorDirectory(string path, IDisk disk, string hint = "ListModelFiles lists those that can be loaded")
{
    private const int MaxDepth = 16;
    private const int MaxNameBytes = 255;

    /// <summary>The files whose names callers could give, ordered by name. Links are left out: a directory that holds itself has no end.</summary>
    /// <exception cref="EngineException">The directory cannot be read.</exception>
    public IReadOnlyList<string> List()
    {
        var all = new EnumerationOptions
        {
            RecurseSubdirectories = true,
            MaxRecursionDepth = MaxDepth - 1,
            IgnoreInaccessible = true,
            AttributesToSkip = FileAttributes.Hidden | FileAttributes.System | FileAttributes.ReparsePoint,
        };
        try
        {
            return [.. Directory.EnumerateFiles(path, "*", all).Select(file => Path.GetRelativePath(path, file)).Where(name => Problem(name) is null).Order(StringComparer.Ordinal)];
        }
        catch (Exception exception) when (DiskFailure.Is(exception))
        {
            throw new EngineException(EngineError.FailedPrecondition, "FILE_UNREADABLE", "the directory cannot be read: it may be gone, or closed to the server; the server's operator can tell", exception);
        }
    }

    /// <summary>Opens a file for reading.</summary>
    /// <param name="name">Its name, with <c>/</c> between folders.</param>
    /// <param name="field">Where the name stands in the request.</param>
    /// <returns>A regular file inside the directory; the caller disposes the handle.</returns>
    /// <exception cref="EngineException">The name is no relative one, there is no such file, or it is not a regular file inside the directory.</exception>
    public SafeFileHandle OpenRead(string name, string field)
    {
        CheckName(name, field);
        try
        {
            using var file = PosixFiles.Find(Path.Combine(path, name)) ?? throw EngineException.NotFound("file", name, hint);
            using var root = PosixFiles.Find(path) ?? throw new DirectoryNotFoundException("the directory is gone");

            // Asked of what was found, and that is opened: no link can be put in its place between the question and the reading, and nothing but a file is ever opened.
            return PosixFiles.IsRegular(file) && PosixFiles.RealPath(file).StartsWith(PosixFiles.RealPath(root).TrimEnd('/') + "/", StringComparison.Ordinal)
                ? PosixFiles.Open(file)
                : throw EngineException.Precondition("FILE_REFUSED", $"{EngineException.Quote(name)} is not a regular file inside the directory; a link may not lead out of it", new ResourceRef("file", name));
        }
        catch (Exception exception) when (DiskFailure.Is(exception))
        {
            throw new EngineException(EngineError.FailedPrecondition, "FILE_UNREADABLE",
                $"{EngineException.Quote(name)} cannot be read: it may be closed to the server; the server's operator can tell", exception)
            {
                Resource = new ResourceRef("file", name),
            };
        }
    }

    /// <summary>Refuses what no file of the directory itself can be called.</summary>
    public static void CheckPlainName(string name, string field)
    {
        CheckName(name, field);
        if (name.Contains('/', StringComparison.Ordinal))
        {
            throw EngineException.Invalid(field, $"is {EngineException.Quote(name)}; a file is written into the directory itself, so its name has no \"/\"", "BAD_FILE_NAME");
        }
    }

    /// <summary>Writes a file that appears under its name when it is whole and on the disk, or not at all.</summary>
    /// <param name="name">Its name, without folders.</param>
    /// <param name="field">Where the name stands in the request.</param>
    /// <param name="overwrite">Whether it may take the place of one that is there.</param>
    /// <param name="write">Writes its content.</param>
    /// <exception cref="EngineException">There is one of that name, or the directory cannot be written to, or is full.</exception>
    public void Write(string name, string field, bool overwrite, Action<Stream> write)
    {
        CheckPlainName(name, field);
        CheckFree(name, overwrite);
        try
        {
            WholeFile.Write(disk, Path.Combine(path, name), WholeFileOptions.Durable | (overwrite ? WholeFileOptions.Replaces : WholeFileOptions.None), write);
        }
        catch (Exception exception) when (DiskFailure.Is(exception))
        {
            throw DiskFailure.IsFull(exception)
                ? new EngineException(EngineError.ResourceExhausted, "DISK_FULL", $"there was no room for {EngineException.Quote(name)} in export_dir: free some, or ask the server's operator", exception)
                : DiskFailure.IsTaken(exception)
                ? EngineException.AlreadyExists("file", name)
                : new EngineException(EngineError.FailedPrecondition, "FILE_UNWRITABLE",
                    $"{EngineException.Quote(name)} could not be written to export_dir: the directory may be closed to the server, or its disk fail; the server's operator can tell", exception);
        }
    }

    /// <summary>Refuses a name that is taken.</summary>
    public void CheckFree(string name, bool overwrite)
    {
        if (!overwrite && Path.Exists(Path.Combine(path, name)))
        {
            throw EngineException.AlreadyExists("file", name);
        }
    }

    /// <summary>Refuses what no file in the directory or below can be called.</summary>
    public static void CheckName(string name, string field)
    {
        if (Problem(name) is { } problem)
        {
            throw EngineException.Invalid(field, $"is {EngineException.Quote(name)}, {problem}; it must be relative to the server's directory, e.g. \"resnet18.safetensors\"", "BAD_FILE_NAME");
        }
    }

    private static string? Problem(string name)
    {
        var parts = name.Split('/');
        return name.Length == 0 ? "which names no file"
            : name[0] == '/' ? "which is absolute"
            : parts.Length > MaxDepth ? $"which has more than {MaxDepth} parts"
            : Array.Exists(parts, part => part.Length == 0) ? "which has an empty part"
            : Array.Exists(parts, part => part is "." or "..") ? "which leads out of where it begins"
            : Array.Exists(parts, part => part[0] == '.') ? "which has a part that begins with \".\""
            : Array.Exists(parts, part => Encoding.UTF8.GetByteCount(part) > MaxNameBytes) ? $"which has a part of more than {MaxNameBytes} bytes"
            : name.Any(c => char.IsControl(c) || char.IsSurrogate(c) || c is '\\' or '\u2028' or '\u2029') ? "which holds a character that file names here do not have"
            : null;
    }
}

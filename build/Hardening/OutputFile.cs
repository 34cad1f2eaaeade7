namespace Sconce.Hardening;

/// <summary>Writes a build output so that builds running side by side never see half a file.</summary>
internal static class OutputFile
{
    /// <summary>Leaves an equal file alone, so that MSBuild, which goes by date, does not copy it again.</summary>
    public static void Write(string path, byte[] content)
    {
        if (File.Exists(path) && File.ReadAllBytes(path).AsSpan().SequenceEqual(content))
            return;

        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);

        // A rename, never a write in place: outputs of earlier builds may be hard links to the old file.
        var temporary = $"{path}.{Environment.ProcessId}.tmp";
        File.WriteAllBytes(temporary, content);
        File.Move(temporary, path, overwrite: true);
    }
}

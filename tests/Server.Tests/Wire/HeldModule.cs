using System.Reflection;

namespace Sconce.Server.Tests.Wire;

/// <summary>
/// A module whose first forward lasts until it is let go, on a machine of any speed. Its server needs <see cref="PlugIn"/> as its plug-in directory.
/// </summary>
/// <param name="directory">Where the file is that says so.</param>
internal sealed class HeldModule(string directory)
{
    private readonly string _file = Path.Combine(directory, "held");

    public static string PlugIn { get; } =
        typeof(HeldModule).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == "Sconce.BrokenPlugIn").Value!;

    public V1.ModuleSpec Spec => Make.Spec($$"""{ "type": "Held", "args": { "file": "{{_file}}" } }""");

    /// <summary>Waits until its first forward runs.</summary>
    public Task RunsAsync() => Eventually.TrueAsync(() => File.Exists(_file));

    public void LetGo() => File.Delete(_file);
}

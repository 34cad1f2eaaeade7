using Sconce.Hardening;

// Run by Sconce.Hardening.csproj at the end of its own build. See docs/decisions/0001-hardened-torchsharp.md.
const string Usage = "usage: hardening <TorchSharp.dll> <libLibTorchSharp.so> <output folder> auto|true|false";

if (args is not [var assemblyPath, var libraryPath, var output, "auto" or "true" or "false"])
{
    Console.Error.WriteLine(Usage);
    return 64;
}

try
{
    var assembly = File.ReadAllBytes(assemblyPath);
    var bodies = KeepArgumentsAlive.Apply(assembly);
    OutputFile.Write(Path.Combine(output, Path.GetFileName(assemblyPath)), assembly);

    var library = File.ReadAllBytes(libraryPath);
    var weak = args[3] == "true" || (args[3] == "auto" && HostLibrary.LacksGlibcxx3432());
    if (weak)
        WeakVersionNeed.Apply(library, HostLibrary.Glibcxx3432);
    OutputFile.Write(Path.Combine(output, Path.GetFileName(libraryPath)), library);

    Console.WriteLine($"{bodies} methods keep their arguments alive; {HostLibrary.Glibcxx3432} is a {(weak ? "weak" : "strong")} need");
    return 0;
}
catch (Exception exception) when (exception is IOException or InvalidDataException or BadImageFormatException or UnauthorizedAccessException)
{
    // The canonical form, so that MSBuild shows it as a build error.
    Console.Error.WriteLine($"hardening : error SCONCE0001: {exception.Message}");
    return 1;
}

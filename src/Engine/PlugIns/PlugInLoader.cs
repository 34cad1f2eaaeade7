using System.Reflection;
using Microsoft.Extensions.Logging;
using Sconce.Engine.Catalog;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.PlugIns;

/// <summary>Loads the assemblies of a plug-in directory: one folder for each plug-in (<c>GatedMlp/GatedMlp.dll</c>), or loose dlls.</summary>
internal sealed partial class PlugInLoader(ILogger log)
{
    private readonly List<PlugInClass> _classes = [];
    private readonly HashSet<string> _names = new(StringComparer.Ordinal);

    /// <summary>The classes that can be used.</summary>
    public IReadOnlyList<PlugInClass> Classes => _classes;

    /// <summary>Why others cannot, by full name and by short name.</summary>
    public Dictionary<string, string> Refused { get; } = new(StringComparer.Ordinal);

    /// <summary>Loads everything, in the order of the names.</summary>
    public void LoadAll(string directory)
    {
        try
        {
            var full = Path.GetFullPath(directory);
            if (!OperatingSystem.IsWindows() && File.GetUnixFileMode(full).HasFlag(UnixFileMode.OtherWrite))
            {
                WorldWritable(log, full);
            }

            foreach (var path in Directory.EnumerateFileSystemEntries(full).Order(StringComparer.Ordinal))
            {
                LoadEntry(path);
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            RefusedFile(log, directory, exception.Message);
        }
    }

    private void LoadEntry(string path)
    {
        try
        {
            if (Directory.Exists(path))
            {
                LoadFolder(path);
            }
            else if (path.EndsWith(".dll", StringComparison.OrdinalIgnoreCase) && Path.GetFileName(path) != "TorchSharp.dll")
            {
                Load(path);
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // One that cannot be read costs the others nothing.
            RefusedFile(log, path, exception.Message);
        }
    }

    private void LoadFolder(string folder)
    {
        var main = Path.Combine(folder, Path.GetFileName(folder) + ".dll");
        if (!File.Exists(main))
        {
            // A build writes a .deps.json beside the plug-in's own assembly and beside no other.
            var built = Directory.EnumerateFiles(folder, "*.deps.json").Select(file => file[..^".deps.json".Length] + ".dll").Where(File.Exists).ToList();
            if (built.Count != 1)
            {
                RefusedFile(log, folder, $"it holds no {Path.GetFileName(main)}; name the folder as its assembly");
                return;
            }

            main = built[0];
        }

        Load(main);
    }

    private void Load(string path)
    {
        try
        {
            var context = new PlugInContext(path);
            var assembly = context.LoadFromAssemblyPath(path);
            var (host, wanted) = (typeof(torch).Assembly.GetName(), assembly.GetReferencedAssemblies().FirstOrDefault(name => name.Name == typeof(torch).Assembly.GetName().Name));
            if (wanted is not null && wanted.Version != host.Version)
            {
                RefusedFile(log, path, $"it was built for TorchSharp {wanted.Version}; this host has {host.Version}: build it for that");
                return;
            }

            var types = TypesOf(assembly);
            if (FunctionGuard.Install(types, context) is { } problem)
            {
                RefusedFile(log, path, problem);
                return;
            }

            var modules = types.Where(type => type.IsClass && typeof(nn.Module).IsAssignableFrom(type)).ToList();
            if (modules.Find(type => !type.IsVisible && BaseCall.Problem(type) is not null) is { } hidden)
            {
                RefusedFile(log, path, $"its class {hidden.FullName}: {BaseCall.Problem(hidden)}");
                return;
            }

            Take(path, assembly, [.. modules.Where(type => type.IsVisible)]);
        }
        catch (Exception exception) when (exception is not OutOfMemoryException)
        {
            // Whatever it is, it is the plug-in's: no .NET assembly, a missing dependency, a static constructor that throws.
            RefusedFile(log, path, exception.Message);
        }
    }

    private void Take(string path, Assembly assembly, List<Type> modules)
    {
        var taken = new List<string>();
        foreach (var type in modules)
        {
            var isCatalogues = ModuleCatalog.IsTypeOrBase(type.FullName!);
            var problem = isCatalogues ? $"it has the name of the built-in type {type.FullName}; put it in a namespace" : "another plug-in has a class of that name";
            if (!isCatalogues && _names.Add(type.FullName!) && PlugInClass.Of(type, out problem) is { } found)
            {
                _classes.Add(found);
                taken.Add(found.FullName);
                continue;
            }

            RefusedClass(log, type.FullName!, problem!);
            foreach (var name in new[] { type.FullName!, type.Name }.Where(name => !ModuleCatalog.IsTypeOrBase(name)))
            {
                _ = Refused.TryAdd(name, problem!);
            }
        }

        Loaded(log, assembly.GetName().Name ?? path, assembly.GetName().Version?.ToString() ?? "", path, taken.Count == 0 ? "no module types" : string.Join(", ", taken));
    }

    private Type[] TypesOf(Assembly assembly)
    {
        try
        {
            return assembly.GetTypes();
        }
        catch (ReflectionTypeLoadException exception)
        {
            foreach (var cause in exception.LoaderExceptions.OfType<Exception>().Select(cause => cause.Message).Distinct())
            {
                RefusedFile(log, assembly.Location, $"some of its types cannot be loaded: {cause}");
            }

            return [.. exception.Types.OfType<Type>()];
        }
    }

    [LoggerMessage(1202, LogLevel.Information, "plug-in {Name} {Version} from {Path}: {Types}")]
    private static partial void Loaded(ILogger logger, string name, string version, string path, string types);

    [LoggerMessage(1203, LogLevel.Warning, "plug-in {Path} is left out: {Reason}")]
    private static partial void RefusedFile(ILogger logger, string path, string reason);

    [LoggerMessage(1204, LogLevel.Warning, "plug-in class {Class} is left out: {Reason}")]
    private static partial void RefusedClass(ILogger logger, string @class, string reason);

    [LoggerMessage(1205, LogLevel.Warning, "every user of this machine may write to the plug-in directory {Path}, and so run code in this server; take that right away")]
    private static partial void WorldWritable(ILogger logger, string path);
}

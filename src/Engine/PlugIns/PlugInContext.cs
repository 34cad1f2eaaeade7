using System.Reflection;
using System.Runtime.Loader;
using TorchSharp;

namespace Sconce.Engine.PlugIns;

/// <summary>
/// The load context of one plug-in: its own dependencies come from its folder, TorchSharp from the host. A copy of TorchSharp in the folder is
/// never loaded: its types would be other types, and it would lack what docs/decisions/0001 says of the host's.
/// </summary>
internal sealed class PlugInContext(string path) : AssemblyLoadContext($"plug-in {Path.GetFileNameWithoutExtension(path)}")
{
    private readonly AssemblyDependencyResolver _resolver = new(path);

    protected override Assembly? Load(AssemblyName assemblyName)
    {
        if (assemblyName.Name == typeof(torch).Assembly.GetName().Name)
        {
            return typeof(torch).Assembly;
        }

        // A loose dll has no .deps.json beside it that names what else lies there.
        var found = _resolver.ResolveAssemblyToPath(assemblyName) ?? Path.Combine(Path.GetDirectoryName(path)!, assemblyName.Name + ".dll");
        return File.Exists(found) && !IsShared(assemblyName) ? LoadFromAssemblyPath(found) : null;
    }

    protected override IntPtr LoadUnmanagedDll(string unmanagedDllName) =>
        _resolver.ResolveUnmanagedDllToPath(unmanagedDllName) is { } found ? LoadUnmanagedDllFromPath(found) : IntPtr.Zero;

    // What the runtime itself brings, a plug-in that was published self-contained notwithstanding.
    private static bool IsShared(AssemblyName name) =>
        ((string?)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES") ?? "").Split(Path.PathSeparator)
            .Any(file => file.StartsWith(Path.GetDirectoryName(typeof(object).Assembly.Location)!, StringComparison.Ordinal) && Path.GetFileNameWithoutExtension(file) == name.Name);
}

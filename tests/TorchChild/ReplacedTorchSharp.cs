using System.Reflection;
using System.Runtime.Loader;

namespace Sconce.TorchChild;

/// <summary>A second copy of this program's code, bound to the TorchSharp.dll at another path.</summary>
internal sealed class ReplacedTorchSharp(string path) : AssemblyLoadContext("replaced TorchSharp")
{
    public object Invoke(Type type, string method, params object[] arguments) =>
        LoadFromAssemblyPath(type.Assembly.Location)
            .GetType(type.FullName!, throwOnError: true)!
            .GetMethod(method, BindingFlags.Static | BindingFlags.Public)!
            .Invoke(null, BindingFlags.DoNotWrapExceptions, null, arguments, null)!;

    // Everything else (the runtime, SharpZipLib, the natives) comes from the default context, as usual.
    protected override Assembly? Load(AssemblyName assemblyName) =>
        assemblyName.Name == "TorchSharp" ? LoadFromAssemblyPath(path) : null;
}

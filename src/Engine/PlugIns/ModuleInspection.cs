using System.Diagnostics.CodeAnalysis;
using Sconce.Engine.Modules;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.PlugIns;

/// <summary>
/// Looks through a module that a plug-in's constructor has made, before anything runs on it: TorchSharp does not check these rules, and breaks
/// later and elsewhere, or recurses for ever, where they are broken.
/// </summary>
internal sealed class ModuleInspection
{

    private readonly string _type;
    private readonly BuildLimits _limits;
    private readonly Dictionary<nn.Module, string> _modules = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<Tensor, string> _tensors = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<IntPtr, string> _parameters = [];
    private readonly List<nn.Module> _open = [];

    private ModuleInspection(string type, BuildLimits limits) => (_type, _limits) = (type, limits);

    /// <summary>Checks a module.</summary>
    /// <param name="module">The module.</param>
    /// <param name="type">What specs call it.</param>
    /// <param name="limits">How large it may be.</param>
    /// <exception cref="EngineException">It breaks a rule; the message says which, where, and what mends it.</exception>
    public static void Check(nn.Module module, string type, BuildLimits limits)
    {
        var inspection = new ModuleInspection(type, limits);
        inspection.Visit(module, "");
        foreach (var (found, path) in inspection._modules.Where(entry => ModuleContents.IsForeign(entry.Key)))
        {
            inspection.CheckFields(found, path);
        }
    }

    private void Visit(nn.Module module, string path)
    {
        if (!ModuleContents.IsConstructed(module))
        {
            Refuse(path, module, $"the constructor of nn.Module was not run on it, or was given no name: begin its constructor with `: base(\"{module.GetType().Name}\")`");
        }

        if (_open.IndexOf(module) is >= 0 and var at)
        {
            Refuse(path, module, $"it contains itself: it is {Where(_modules[_open[at]])} again; a module may hold its parts, not what it is part of");
        }

        // A submodule may be shared: then it is one module under several names.
        if (!_modules.TryAdd(module, path))
        {
            return;
        }

        if (ModuleContents.IsForeign(module) && string.IsNullOrEmpty(ModuleContents.Name(module)))
        {
            Refuse(path, module, $"nn.Module was given no name: begin its constructor with `: base(\"{module.GetType().Name}\")`");
        }

        if (_open.Count >= _limits.MaxDepth || _modules.Count > _limits.MaxModules)
        {
            Refuse(path, module, $"it is nested more than {_limits.MaxDepth} deep or has more than {_limits.MaxModules:N0} submodules; raise max_spec_depth or max_submodules, or build it smaller");
        }

        _open.Add(module);
        var names = new HashSet<string>(StringComparer.Ordinal);
        foreach (var (name, parameter) in ModuleContents.NamedParameters(module))
        {
            CheckTensor(module, path, name, "parameter", parameter, names);
            if (!_parameters.TryAdd(parameter.Handle, ModuleTree.Join(path, name)))
            {
                Refuse(path, module, $"its parameter {EngineException.Quote(name)} is also {EngineException.Quote(_parameters[parameter.Handle])}; share the submodule that holds it, not the parameter");
            }
        }

        foreach (var (name, buffer, _) in ModuleContents.NamedBuffers(module))
        {
            CheckTensor(module, path, name, "buffer", buffer, names);
        }

        foreach (var (name, child) in Children(module, path))
        {
            CheckName(module, path, name, "submodule", names);
            Visit(child, ModuleTree.Join(path, name));
        }

        _open.RemoveAt(_open.Count - 1);
    }

    private List<(string Name, nn.Module Child)> Children(nn.Module module, string path)
    {
        try
        {
            return [.. module.named_children().Select(child => (child.name, child.module))];
        }
        catch (Exception exception)
        {
            throw PlugInFailure.Unexpected(exception, $"named_children of {Where(path)} of the plug-in type {_type}");
        }
    }

    private void CheckTensor(nn.Module module, string path, string name, string kind, Tensor tensor, HashSet<string> names)
    {
        CheckName(module, path, name, kind, names);
        if (tensor.IsInvalid)
        {
            Refuse(path, module, $"its {kind} {EngineException.Quote(name)} has been disposed; keep what is registered out of dispose scopes that end in the constructor");
        }

        if (tensor.device_type != DeviceType.CPU)
        {
            Refuse(path, module, $"its {kind} {EngineException.Quote(name)} is on {tensor.device}; this host owns cpu: make it there");
        }

        _ = _tensors.TryAdd(tensor, ModuleTree.Join(path, name));
    }

    private void CheckName(nn.Module module, string path, string name, string kind, HashSet<string> names)
    {
        if (AttributeNames.Problem(name, kind) is { } problem)
        {
            Refuse(path, module, problem);
        }

        if (!names.Add(name))
        {
            Refuse(path, module, $"{EngineException.Quote(name)} is the name of a {kind} and of something else it has registered; names are unique within a module");
        }
    }

    private void CheckFields(nn.Module module, string path)
    {
        foreach (var (field, value, inCollection) in ModuleContents.Fields(module))
        {
            if (value is nn.Module part ? _modules.ContainsKey(part) : _tensors.ContainsKey((Tensor)value))
            {
                continue;
            }

            var what = value switch { nn.Module => "module", Parameter => "parameter", _ => "tensor" };
            Refuse(path, module, inCollection
                ? $"the {what} in its collection {field} is not registered; hold it in a ModuleList, ModuleDict, ParameterList or ParameterDict, or call register_module, register_parameter or register_buffer"
                : $"the {what} in its field {field} is not registered; end the constructor with RegisterComponents(), after the last field is set");
        }
    }

    [DoesNotReturn]
    private void Refuse(string path, nn.Module module, string reason) =>
        throw PlugInFailure.Refused(_type, path.Length == 0 ? reason : $"of its submodule {EngineException.Quote(path)} ({module.GetType().Name}): {reason}");

    private static string Where(string path) => path.Length == 0 ? "the whole" : EngineException.Quote(path);
}

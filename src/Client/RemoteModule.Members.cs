using Sconce.V1;

namespace Sconce.Client;

/// <summary>A parameter or buffer by its name.</summary>
/// <param name="Name">Dotted name, e.g. "layer1.0.weight".</param>
/// <param name="Info">Its dtype, shape, requires_grad and the like.</param>
public sealed record NamedTensorInfo(string Name, TensorInfo Info);

/// <summary>A parameter or buffer with its value.</summary>
/// <param name="Info">Its dtype, shape, requires_grad and the like.</param>
/// <param name="Tensor">A copy of its value; <see cref="TensorData.None"/> for a buffer that is None.</param>
/// <param name="Generation">Generation of the module at the copy.</param>
public sealed record MemberValue(TensorInfo Info, TensorData Tensor, ulong Generation);

// What nn.Module lists of itself; each is one DescribeModule.
public sealed partial class RemoteModule
{
    /// <summary>One parameter with its value (nn.Module.get_parameter).</summary>
    /// <param name="target">Its dotted name from here, e.g. "layer1.0.weight".</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<MemberValue> GetParameterAsync(string target, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(target);
        var request = new GetParameterRequest { Module = Name, Path = Path, Name = target };
        var response = await SendAsync(Rpc.Modules.GetParameterAsync, request, cancellationToken).ConfigureAwait(false);
        return new MemberValue(response.Info, TensorData.From(response.Tensor), response.Generation);
    }

    /// <summary>One buffer with its value (nn.Module.get_buffer), non-persistent ones too.</summary>
    /// <param name="target">Its dotted name from here, e.g. "bn1.running_mean".</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<MemberValue> GetBufferAsync(string target, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(target);
        var request = new GetBufferRequest { Module = Name, Path = Path, Name = target };
        var response = await SendAsync(Rpc.Modules.GetBufferAsync, request, cancellationToken).ConfigureAwait(false);
        return new MemberValue(response.Info, response.Tensor is null ? TensorData.None : TensorData.From(response.Tensor), response.Generation);
    }

    /// <summary>Its parameters (nn.Module.parameters), a tied one once.</summary>
    /// <param name="recurse">Those of submodules too.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<IReadOnlyList<TensorInfo>> ParametersAsync(bool recurse = true, CancellationToken cancellationToken = default) =>
        [.. (await NamedParametersAsync("", recurse, true, cancellationToken).ConfigureAwait(false)).Select(parameter => parameter.Info)];

    /// <summary>Its parameters by name (nn.Module.named_parameters).</summary>
    /// <param name="prefix">Put before every name, with a "." between.</param>
    /// <param name="recurse">Those of submodules too.</param>
    /// <param name="removeDuplicate">List a tied one under its first name only.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<IReadOnlyList<NamedTensorInfo>> NamedParametersAsync(
        string prefix = "", bool recurse = true, bool removeDuplicate = true, CancellationToken cancellationToken = default) =>
        MembersAsync(node => node.Parameters, prefix, recurse, removeDuplicate, cancellationToken);

    /// <summary>Its buffers (nn.Module.buffers), a shared one once.</summary>
    /// <param name="recurse">Those of submodules too.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<IReadOnlyList<TensorInfo>> BuffersAsync(bool recurse = true, CancellationToken cancellationToken = default) =>
        [.. (await NamedBuffersAsync("", recurse, true, cancellationToken).ConfigureAwait(false)).Select(buffer => buffer.Info)];

    /// <summary>Its buffers by name (nn.Module.named_buffers), non-persistent ones too.</summary>
    /// <param name="prefix">Put before every name, with a "." between.</param>
    /// <param name="recurse">Those of submodules too.</param>
    /// <param name="removeDuplicate">List a shared one under its first name only.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<IReadOnlyList<NamedTensorInfo>> NamedBuffersAsync(
        string prefix = "", bool recurse = true, bool removeDuplicate = true, CancellationToken cancellationToken = default) =>
        MembersAsync(node => node.Buffers, prefix, recurse, removeDuplicate, cancellationToken);

    /// <summary>Its children (nn.Module.children), a shared one once.</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<IReadOnlyList<RemoteModule>> ChildrenAsync(CancellationToken cancellationToken = default) =>
        [.. (await NamedChildrenAsync(cancellationToken).ConfigureAwait(false)).Select(child => child.Value)];

    /// <summary>Its children by name (nn.Module.named_children), a shared one under its first name.</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<IReadOnlyList<KeyValuePair<string, RemoteModule>>> NamedChildrenAsync(CancellationToken cancellationToken = default)
    {
        var children = (await DescribeAsync(cancellationToken).ConfigureAwait(false)).Root.Children;

        // What is also somewhere deeper is a child all the same; only among siblings does one count once.
        return [.. children.DistinctBy(child => child.AliasOf.Length > 0 ? child.AliasOf : child.Path)
            .Select(child => KeyValuePair.Create(child.Name, GetSubmodule(child.Name)))];
    }

    /// <summary>It and all its submodules (nn.Module.modules), a shared one once.</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<IReadOnlyList<RemoteModule>> ModulesAsync(CancellationToken cancellationToken = default) =>
        [.. (await NamedModulesAsync("", true, cancellationToken).ConfigureAwait(false)).Select(module => module.Value)];

    /// <summary>It, under the name <paramref name="prefix"/>, and all its submodules by name (nn.Module.named_modules).</summary>
    /// <param name="prefix">Put before every name, with a "." between.</param>
    /// <param name="removeDuplicate">List a shared one, and what is below it, under its first name only.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<IReadOnlyList<KeyValuePair<string, RemoteModule>>> NamedModulesAsync(
        string prefix = "", bool removeDuplicate = true, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(prefix);
        var root = (await DescribeAsync(cancellationToken).ConfigureAwait(false)).Root;
        return [.. Walk(root, "", removeDuplicate).Select(at => KeyValuePair.Create(Join(prefix, at.Name), GetSubmodule(at.Name)))];
    }

    /// <summary>What PyTorch prints between its parentheses (nn.Module.extra_repr).</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<string> ExtraReprAsync(CancellationToken cancellationToken = default) =>
        (await DescribeAsync(cancellationToken).ConfigureAwait(false)).Root.ExtraRepr;

    /// <summary>The tree as PyTorch prints it (repr).</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<string> ReprAsync(CancellationToken cancellationToken = default) =>
        (await DescribeAsync(cancellationToken).ConfigureAwait(false)).Repr;

    private async Task<IReadOnlyList<NamedTensorInfo>> MembersAsync(
        Func<ModuleNode, IEnumerable<TensorInfo>> members, string prefix, bool recurse, bool removeDuplicate, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(prefix);
        var root = (await DescribeAsync(cancellationToken).ConfigureAwait(false)).Root;
        var nodes = recurse ? Walk(root, "", removeDuplicate) : [("", root)];
        return [.. nodes.SelectMany(at => members(at.Node)
            .Where(info => !info.IsNone && (!removeDuplicate || info.AliasOf.Length == 0))
            .Select(info => new NamedTensorInfo(Join(prefix, Join(at.Name, info.Name)), info)))];
    }

    private static IEnumerable<(string Name, ModuleNode Node)> Walk(ModuleNode node, string name, bool removeDuplicate) =>
        removeDuplicate && node.AliasOf.Length > 0 ? []
        : node.Children.SelectMany(child => Walk(child, Join(name, child.Name), removeDuplicate)).Prepend((name, node));

    private static string Join(string prefix, string name) => prefix.Length == 0 ? name : name.Length == 0 ? prefix : $"{prefix}.{name}";
}

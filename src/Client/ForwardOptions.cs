using Sconce.V1;

namespace Sconce.Client;

/// <summary>What a forward does besides computing.</summary>
public sealed record ForwardOptions
{
    /// <summary>Refuse inputs that hold a NaN or an infinity, with <see cref="SconceInvalidArgumentException"/> naming the input.</summary>
    public bool RejectNonFinite { get; init; }

    /// <summary>Hooks for this call alone, in order: see <see cref="Sconce.Client.Hooks"/>.</summary>
    public IReadOnlyList<Hook> Hooks { get; init; } = [];
}

/// <summary>What a forward that keeps its autograd graph does besides computing.</summary>
public sealed record GraphOptions
{
    /// <summary>Whether floating and complex inputs require gradients.</summary>
    public bool InputGrads { get; init; } = true;

    /// <summary>How long the graph lives; null is the server's <c>graph_ttl</c>.</summary>
    public TimeSpan? TimeToLive { get; init; }

    /// <summary>The session that owns the graph, which goes when the session ends; null for none.</summary>
    public RemoteSession? Session { get; init; }

    /// <summary>Refuse inputs that hold a NaN or an infinity.</summary>
    public bool RejectNonFinite { get; init; }

    /// <summary>Hooks, in order; those on gradients stand as long as the graph and report in its backward.</summary>
    public IReadOnlyList<Hook> Hooks { get; init; } = [];
}

/// <summary>Which submodules <see cref="RemoteModule.ApplyAsync"/> visits and what it fills; empty fields select all.</summary>
public sealed record ApplyFilter
{
    /// <summary>Exactly this type (<c>type(m) == T</c>), e.g. "Linear". Not together with <see cref="IsInstance"/>.</summary>
    public string Type { get; init; } = "";

    /// <summary>This type or one derived from it (<c>isinstance</c>), e.g. "_ConvNd".</summary>
    public string IsInstance { get; init; } = "";

    /// <summary>Submodules whose path matches, <c>*</c> and <c>?</c> as wildcards.</summary>
    public string Glob { get; init; } = "";

    /// <summary>Which of a submodule's own parameters are filled, by name.</summary>
    public IReadOnlyList<string> Parameters { get; init; } = [];
}

using System.Numerics.Tensors;
using Sconce.Client.Internal;

namespace Sconce.Client;

/// <summary>A module with one input and one output whose elements are of known types.</summary>
/// <typeparam name="TIn">Element of the input: see <see cref="DataTypes.Of{T}"/>.</typeparam>
/// <typeparam name="TOut">Element of the output.</typeparam>
public sealed class RemoteModule<TIn, TOut>
    where TIn : unmanaged
    where TOut : unmanaged
{
    internal RemoteModule(RemoteModule module)
    {
        // Fail here, not at the first forward.
        _ = DataTypes.Of<TIn>();
        _ = DataTypes.Of<TOut>();
        Module = module;
    }

    /// <summary>The module without types, with all its methods.</summary>
    public RemoteModule Module { get; }

    /// <summary>
    /// Calls the module with .NET tensors. The input is sent from where it is; the output is copied once into its new tensor, of lengths [1] where it is a
    /// scalar.
    /// </summary>
    /// <param name="input">The input.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    /// <exception cref="InvalidOperationException">The output is a tuple, or of another dtype.</exception>
    public async Task<Tensor<TOut>> ForwardAsync(Tensor<TIn> input, CancellationToken cancellationToken = default)
    {
        TensorData output = await Module.ForwardAsync(TensorData.Create(input), null, cancellationToken).ConfigureAwait(false);
        return output.ToTensor<TOut>();
    }

    /// <summary>
    /// Calls the module with elements in memory. Nothing is copied: the input is sent from where it is, the output shares the answer's
    /// memory.
    /// </summary>
    /// <param name="input">Elements in row-major order.</param>
    /// <param name="shape">Sizes of the input's dimensions.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    /// <returns>The output's elements in row-major order.</returns>
    /// <exception cref="InvalidOperationException">The output is a tuple, or of another dtype.</exception>
    public async Task<ReadOnlyMemory<TOut>> ForwardAsync(
        ReadOnlyMemory<TIn> input, IReadOnlyList<long> shape, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(shape);
        var tensor = TensorData.FromBytes(DataTypes.Of<TIn>(), [.. shape], CastMemory.AsBytes(input));
        TensorData output = await Module.ForwardAsync(tensor, null, cancellationToken).ConfigureAwait(false);
        return output.As<TOut>();
    }
}

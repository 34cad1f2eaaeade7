namespace Sconce.Client;

/// <summary>
/// A complex number of two <see cref="float"/>: the element of a complex64 tensor, for which .NET has no type of its own.
/// </summary>
/// <param name="Real">The real part.</param>
/// <param name="Imaginary">The imaginary part.</param>
public readonly record struct Complex64(float Real, float Imaginary);

namespace Sconce.Cli.Data;

/// <summary>Images and their classes, one after another.</summary>
internal sealed record ImageSet(int Count, int Rows, int Columns, byte[] Pixels, byte[] Labels)
{
    public int PixelsPerImage => Rows * Columns;

    /// <summary>The first <paramref name="count"/> images, or all where there are fewer.</summary>
    public ImageSet Take(int count)
        => count >= Count ? this : new ImageSet(count, Rows, Columns, Pixels[..(count * PixelsPerImage)], Labels[..count]);
}

/// <summary>Fashion-MNIST in its ordinary form: a folder with four idx.gz files.</summary>
internal sealed record FashionMnist(ImageSet Train, ImageSet Test)
{
    public const int Classes = 10;

    /// <summary>Mean and standard deviation of the training pixels as fractions of 255: inputs are normalised with them.</summary>
    public const float Mean = 0.2860f;

    /// <inheritdoc cref="Mean"/>
    public const float Deviation = 0.3530f;

    public static FashionMnist Read(string folder)
    {
        if (!Directory.Exists(folder))
            throw new UsageException($"{folder}: there is no such folder. --data takes the folder that holds train-images-idx3-ubyte.gz and its three companions, "
                + "e.g. /usr/share/datasets/fashion-mnist from Debian's package dataset-fashion-mnist.");
        return new FashionMnist(ReadSet(folder, "train"), ReadSet(folder, "t10k"));
    }

    /// <summary>The subset that comes with Sconce: beside the program, or in the source checkout that it was built in.</summary>
    public static string FindSubset()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            var candidate = Path.Combine(folder.FullName, "data", "fashion-mnist");
            if (File.Exists(Path.Combine(candidate, "train-images-idx3-ubyte.gz")))
                return candidate;
        }

        throw new UsageException("The Fashion-MNIST subset (data/fashion-mnist) is not beside this program nor above it; give a folder with --data DIR.");
    }

    private static ImageSet ReadSet(string folder, string split)
    {
        var images = IdxFile.Read(Path.Combine(folder, $"{split}-images-idx3-ubyte.gz"));
        var labels = IdxFile.Read(Path.Combine(folder, $"{split}-labels-idx1-ubyte.gz"));
        if (images.Shape.Count != 3)
            throw new UsageException($"{images.Path}: has {images.Shape.Count} dimensions; images have 3 (count, rows, columns).");
        if (labels.Shape.Count != 1)
            throw new UsageException($"{labels.Path}: has {labels.Shape.Count} dimensions; labels have 1 (count).");
        if (images.Shape[0] != labels.Shape[0])
            throw new UsageException($"{labels.Path}: holds {labels.Shape[0]} labels for {images.Shape[0]} images.");
        if (images.Shape[1] != 28 || images.Shape[2] != 28)
            throw new UsageException($"{images.Path}: images are {images.Shape[1]}x{images.Shape[2]}; Fashion-MNIST's are 28x28.");
        if (Array.FindIndex(labels.Data, label => label >= Classes) is >= 0 and var bad)
            throw new UsageException($"{labels.Path}: label {bad} is {labels.Data[bad]}; Fashion-MNIST's are 0 to {Classes - 1}.");
        return new ImageSet(images.Shape[0], images.Shape[1], images.Shape[2], images.Data, labels.Data);
    }
}

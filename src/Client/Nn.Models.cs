using Sconce.V1;

namespace Sconce.Client;

/// <content>The built-in models. Their state-dict keys are torchvision's, PyTorch Hub's and Hugging Face's.</content>
public static partial class Nn
{
    /// <summary>torchvision.ops.MLP: linear layers with an activation and dropout between them.</summary>
    /// <param name="inChannels">Size of each input sample.</param>
    /// <param name="hiddenChannels">Size of each layer; the last is the output's.</param>
    /// <param name="args">Further arguments by torchvision's names, e.g. ("dropout", 0.1), ("activation_layer", "GELU").</param>
    public static ModuleSpec Mlp(int inChannels, int[] hiddenChannels, params Arguments args) =>
        Model("MLP", args, ("in_channels", inChannels), ("hidden_channels", hiddenChannels));

    /// <summary>LeNet-5 with the names of PyTorch's tutorial: conv1, conv2, fc1, fc2, fc3.</summary>
    /// <param name="numClasses">Classes.</param>
    /// <param name="inChannels">Channels of an image.</param>
    /// <param name="imageSize">Height and width of an image, e.g. 28 for MNIST.</param>
    public static ModuleSpec LeNet5(int numClasses = 10, int inChannels = 1, int imageSize = 32) =>
        Module("LeNet5", ("num_classes", numClasses), ("in_channels", inChannels), ("image_size", imageSize));

    /// <summary>torchvision's resnet18.</summary>
    /// <param name="numClasses">Classes.</param>
    /// <param name="args">Further arguments by torchvision's names, e.g. ("zero_init_residual", true).</param>
    public static ModuleSpec ResNet18(int numClasses = 1000, params Arguments args) => Model("resnet18", args, ("num_classes", numClasses));

    /// <summary>torchvision's resnet34.</summary>
    /// <param name="numClasses">Classes.</param>
    /// <param name="args">Further arguments by torchvision's names.</param>
    public static ModuleSpec ResNet34(int numClasses = 1000, params Arguments args) => Model("resnet34", args, ("num_classes", numClasses));

    /// <summary>torchvision's resnet50.</summary>
    /// <param name="numClasses">Classes.</param>
    /// <param name="args">Further arguments by torchvision's names, e.g. ("groups", 32), ("width_per_group", 4).</param>
    public static ModuleSpec ResNet50(int numClasses = 1000, params Arguments args) => Model("resnet50", args, ("num_classes", numClasses));

    /// <summary>torchvision's resnet101.</summary>
    /// <param name="numClasses">Classes.</param>
    /// <param name="args">Further arguments by torchvision's names.</param>
    public static ModuleSpec ResNet101(int numClasses = 1000, params Arguments args) => Model("resnet101", args, ("num_classes", numClasses));

    /// <summary>torchvision's resnet152.</summary>
    /// <param name="numClasses">Classes.</param>
    /// <param name="args">Further arguments by torchvision's names.</param>
    public static ModuleSpec ResNet152(int numClasses = 1000, params Arguments args) => Model("resnet152", args, ("num_classes", numClasses));

    /// <summary>torchvision's vgg11, vgg13, vgg16 and vgg19, with batch norm (vgg16_bn) or without.</summary>
    /// <param name="layers">11, 13, 16 or 19.</param>
    /// <param name="batchNorm">Whether a batch norm follows each convolution.</param>
    /// <param name="numClasses">Classes.</param>
    /// <param name="args">Further arguments by torchvision's names, e.g. ("dropout", 0.2).</param>
    public static ModuleSpec Vgg(int layers, bool batchNorm = false, int numClasses = 1000, params Arguments args) =>
        Model($"vgg{layers}{(batchNorm ? "_bn" : "")}", args, ("num_classes", numClasses));

    /// <summary>torchvision's mobilenet_v2.</summary>
    /// <param name="numClasses">Classes.</param>
    /// <param name="args">Further arguments by torchvision's names, e.g. ("width_mult", 0.5).</param>
    public static ModuleSpec MobileNetV2(int numClasses = 1000, params Arguments args) => Model("mobilenet_v2", args, ("num_classes", numClasses));

    /// <summary>The U-Net of PyTorch Hub: an image to a map of probabilities of the same size, which 16 must divide.</summary>
    /// <param name="inChannels">Channels of an image.</param>
    /// <param name="outChannels">Channels of the map.</param>
    /// <param name="initFeatures">Features of the first level; each level below has twice as many.</param>
    public static ModuleSpec UNet(int inChannels = 3, int outChannels = 1, int initFeatures = 32) =>
        Module("UNet", ("in_channels", inChannels), ("out_channels", outChannels), ("init_features", initFeatures));

    /// <summary>Hugging Face's GPT2LMHeadModel: token ids (int64, [batch, step]) to logits. Without arguments it is gpt2, of 124 million parameters.</summary>
    /// <param name="args">Arguments by the names of GPT2Config, e.g. ("n_layer", 2), ("n_embd", 64).</param>
    public static ModuleSpec Gpt2(params Arguments args) => Model("GPT2LMHeadModel", args);

    /// <summary>
    /// Hugging Face's BertModel, a Transformer encoder: token ids (int64, [batch, step]) to a vector for each token, and one for each row. Without
    /// arguments it is bert-base-uncased, of 109 million parameters.
    /// </summary>
    /// <param name="args">Arguments by the names of BertConfig, e.g. ("num_hidden_layers", 2).</param>
    public static ModuleSpec Bert(params Arguments args) => Model("BertModel", args);

    /// <summary>Hugging Face's BertForSequenceClassification: token ids (int64, [batch, step]) to logits of classes.</summary>
    /// <param name="numLabels">Classes.</param>
    /// <param name="args">Further arguments by the names of BertConfig.</param>
    public static ModuleSpec BertClassifier(int numLabels = 2, params Arguments args) => Model("BertForSequenceClassification", args, ("num_labels", numLabels));

    private static ModuleSpec Model(string type, Arguments more, params Arguments args)
    {
        ArgumentNullException.ThrowIfNull(more);
        var spec = Module(type, args);
        if (more.ToMessage() is { } message)
        {
            spec.Args ??= new();
            spec.Args.MergeFrom(message);
        }

        return spec;
    }
}

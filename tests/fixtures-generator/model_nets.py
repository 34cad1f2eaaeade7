"""The built-in models in plain PyTorch: the modules of torchvision, PyTorch Hub and Hugging Face under their names, in the order they register them."""
import functools

import torch
from torch import nn
from torch.nn import functional as F


class Mlp(nn.Sequential):
    def __init__(self, in_channels, hidden_channels, norm_layer=None, activation_layer="ReLU", inplace=None, bias=True, dropout=0.0):
        params = {} if inplace is None else {"inplace": inplace}
        layers = []
        for size in hidden_channels[:-1]:
            layers.append(nn.Linear(in_channels, size, bias=bias))
            if norm_layer:
                layers.append(getattr(nn, norm_layer)(size))
            layers += [getattr(nn, activation_layer)(**params), nn.Dropout(dropout, **params)]
            in_channels = size
        layers += [nn.Linear(in_channels, hidden_channels[-1], bias=bias), nn.Dropout(dropout, **params)]
        super().__init__(*layers)


class LeNet5(nn.Module):
    def __init__(self, num_classes=10, in_channels=1, image_size=32):
        super().__init__()
        side = ((image_size - 4) // 2 - 4) // 2
        self.conv1 = nn.Conv2d(in_channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc3(F.relu(self.fc2(x)))


def conv3x3(inputs, outputs, stride=1, groups=1, dilation=1):
    return nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, groups, bias=False)


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inplanes, planes, stride=1, downsample=None, groups=1, base_width=64, dilation=1):
        super().__init__()
        self.conv1 = conv3x3(inplanes, planes, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inplanes, planes, stride=1, downsample=None, groups=1, base_width=64, dilation=1):
        super().__init__()
        width = int(planes * (base_width / 64.0)) * groups
        self.conv1 = nn.Conv2d(inplanes, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride, groups, dilation)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, planes * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(out)))))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, block, layers, num_classes=1000, zero_init_residual=False, groups=1, width_per_group=64):
        super().__init__()
        self.inplanes, self.groups, self.base_width = 64, groups, width_per_group
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = self._make_layer(block, 64, layers[0])
        self.layer2 = self._make_layer(block, 128, layers[1], 2)
        self.layer3 = self._make_layer(block, 256, layers[2], 2)
        self.layer4 = self._make_layer(block, 512, layers[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512 * block.expansion, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, nn.BatchNorm2d):
                nn.init.constant_(m.weight, 1)
                nn.init.constant_(m.bias, 0)
        for m in self.modules() if zero_init_residual else []:
            if isinstance(m, Bottleneck):
                nn.init.constant_(m.bn3.weight, 0)
            elif isinstance(m, BasicBlock):
                nn.init.constant_(m.bn2.weight, 0)

    def _make_layer(self, block, planes, blocks, stride=1):
        downsample = None
        if stride != 1 or self.inplanes != planes * block.expansion:
            downsample = nn.Sequential(nn.Conv2d(self.inplanes, planes * block.expansion, 1, stride, bias=False), nn.BatchNorm2d(planes * block.expansion))
        layers = [block(self.inplanes, planes, stride, downsample, self.groups, self.base_width)]
        self.inplanes = planes * block.expansion
        layers += [block(self.inplanes, planes, groups=self.groups, base_width=self.base_width) for _ in range(1, blocks)]
        return nn.Sequential(*layers)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class VGG(nn.Module):
    def __init__(self, convolutions, batch_norm, num_classes=1000, init_weights=True, dropout=0.5):
        super().__init__()
        layers, inputs = [], 3
        for count, outputs in zip(convolutions, (64, 128, 256, 512, 512)):
            for _ in range(count):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), *([nn.BatchNorm2d(outputs)] if batch_norm else []), nn.ReLU(inplace=True)]
                inputs = outputs
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096), nn.ReLU(True), nn.Dropout(dropout), nn.Linear(4096, 4096), nn.ReLU(True), nn.Dropout(dropout), nn.Linear(4096, num_classes))
        for m in self.modules() if init_weights else []:
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
                nn.init.constant_(m.bias, 0)
            elif isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, 0, 0.01)
                nn.init.constant_(m.bias, 0)

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class Conv2dNormActivation(nn.Sequential):
    def __init__(self, inputs, outputs, kernel_size=3, stride=1, groups=1):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel_size, stride, (kernel_size - 1) // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    def __init__(self, inp, oup, stride, expand_ratio):
        super().__init__()
        hidden = int(round(inp * expand_ratio))
        self.use_res_connect = stride == 1 and inp == oup
        first = [Conv2dNormActivation(inp, hidden, kernel_size=1)] if expand_ratio != 1 else []
        self.conv = nn.Sequential(*first, Conv2dNormActivation(hidden, hidden, stride=stride, groups=hidden), nn.Conv2d(hidden, oup, 1, bias=False), nn.BatchNorm2d(oup))

    def forward(self, x):
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


def divisible(value, divisor):
    near = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return near + divisor if near < 0.9 * value else near


class MobileNetV2(nn.Module):
    def __init__(self, num_classes=1000, width_mult=1.0, round_nearest=8, dropout=0.2):
        super().__init__()
        inputs = divisible(32 * width_mult, round_nearest)
        last = divisible(1280 * max(1.0, width_mult), round_nearest)
        features = [Conv2dNormActivation(3, inputs, stride=2)]
        for t, c, n, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):
            outputs = divisible(c * width_mult, round_nearest)
            for i in range(n):
                features.append(InvertedResidual(inputs, outputs, s if i == 0 else 1, t))
                inputs = outputs
        features.append(Conv2dNormActivation(inputs, last, kernel_size=1))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out")
            elif isinstance(m, nn.BatchNorm2d):
                nn.init.ones_(m.weight)
                nn.init.zeros_(m.bias)
            elif isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, 0, 0.01)
                nn.init.zeros_(m.bias)

    def forward(self, x):
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(self.features(x), (1, 1)), 1))


class UNet(nn.Module):
    def __init__(self, in_channels=3, out_channels=1, init_features=32):
        super().__init__()
        f = init_features
        for level, (inputs, outputs) in enumerate(((in_channels, f), (f, f * 2), (f * 2, f * 4), (f * 4, f * 8)), 1):
            setattr(self, f"encoder{level}", self.block(inputs, outputs, f"enc{level}"))
            setattr(self, f"pool{level}", nn.MaxPool2d(kernel_size=2, stride=2))
        self.bottleneck = self.block(f * 8, f * 16, "bottleneck")
        for level in (4, 3, 2, 1):
            outputs = f * 2 ** (level - 1)
            setattr(self, f"upconv{level}", nn.ConvTranspose2d(outputs * 2, outputs, kernel_size=2, stride=2))
            setattr(self, f"decoder{level}", self.block(outputs * 2, outputs, f"dec{level}"))
        self.conv = nn.Conv2d(f, out_channels, kernel_size=1)

    def forward(self, x):
        skips = []
        for level in (1, 2, 3, 4):
            skips.append(getattr(self, f"encoder{level}")(x))
            x = getattr(self, f"pool{level}")(skips[-1])
        x = self.bottleneck(x)
        for level in (4, 3, 2, 1):
            x = getattr(self, f"decoder{level}")(torch.cat((getattr(self, f"upconv{level}")(x), skips[level - 1]), dim=1))
        return torch.sigmoid(self.conv(x))

    @staticmethod
    def block(inputs, features, name):
        block = nn.Sequential()
        for i, size in ((1, inputs), (2, features)):
            block.add_module(f"{name}conv{i}", nn.Conv2d(size, features, 3, padding=1, bias=False))
            block.add_module(f"{name}norm{i}", nn.BatchNorm2d(features))
            block.add_module(f"{name}relu{i}", nn.ReLU(inplace=True))
        return block


def resnet(block, *layers):
    return functools.partial(ResNet, block, layers)


VISION = {
    "MLP": Mlp,
    "LeNet5": LeNet5,
    "resnet18": resnet(BasicBlock, 2, 2, 2, 2),
    "resnet34": resnet(BasicBlock, 3, 4, 6, 3),
    "resnet50": resnet(Bottleneck, 3, 4, 6, 3),
    "resnet101": resnet(Bottleneck, 3, 4, 23, 3),
    "resnet152": resnet(Bottleneck, 3, 8, 36, 3),
    **{f"vgg{size}{'_bn' if norm else ''}": functools.partial(VGG, counts, norm)
       for size, counts in ((11, (1, 1, 2, 2, 2)), (13, (2, 2, 2, 2, 2)), (16, (2, 2, 3, 3, 3)), (19, (2, 2, 4, 4, 4))) for norm in (False, True)},
    "mobilenet_v2": MobileNetV2,
    "UNet": UNet,
}

"""Every setting of the loop, with its default; experiments change a few of them.

Command:   not run by itself; see `configs/digits.py` and `configs/chest_xray.py`.
Override:  any field from the command line, e.g. `--config.gan.steps=4000`.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Returns the defaults, for 64-pixel grey images on a small machine."""
    config = ml_collections.ConfigDict()
    config.seed = 0  # root of all randomness except the data split
    config.tensorboard = True  # write TensorBoard events beside metrics.jsonl
    config.model_devices = 1  # second axis of the mesh, for networks too large for one device

    # How training is kept safe. It is in no stage's digest: where all updates are finite, nothing
    # of it changes a result; where many are not, skip_limit tells when the training goes back, and
    # keep and keep_every whereto.
    config.train = train = ml_collections.ConfigDict()
    train.keep = 2  # newest checkpoints that are kept; the one before stands in for a damaged one
    train.keep_every = 0  # checkpoints at multiples of this many steps are kept for ever; 0: none
    train.skip_limit = (
        10  # updates dropped in a row, as not finite, before going back; then the end
    )

    config.data = data = ml_collections.ConfigDict()
    data.source = "tfds:vrn_digits"  # tfds:NAME[/CONFIG]; npz:, folder:, video:, dicom:, nifti:PATH
    data.labels = ""  # CSV or Parquet table of labels (docs/data.md); "" takes class folders
    data.axis = "axial"  # which slices of NIfTI volumes: axial, coronal or sagittal; volume: none,
    # volumes and DICOM series are kept whole
    data.depth = 0  # slices of these volumes; 0: as many as data.size
    data.stride = 1  # which frames of videos: 0, stride, 2 stride and so on
    data.salt = ""  # any secret text: patient identifiers are kept only as salted digests
    data.max_unreadable = 0.1  # share of the files that may be unreadable; they are listed
    data.synthetic = "refuse"  # images marked as synthetic: refuse, or train, arm imported alone
    data.workers = 0  # processes that read images; 0: one per core. Changes no byte of the records
    data.attributes = ()  # of a tfds set: every combination of them is a class
    data.data_dir = ""  # of tfds; "" is TFDS_DATA_DIR or ~/tensorflow_datasets
    data.preprocess = ("resize",)  # steps of docs/data.md, in order
    data.size = 64  # images become size x size pixels: a power of two from 16 to 128; translators
    # take 256 too
    data.channels = 1  # 1 grey, 3 colour; any number for npz sources
    data.real_per_class = 50  # labelled real training images per class; 0 takes all
    data.per_class = ""  # rarity, JSON {"class name": count}; overrides real_per_class
    data.unlabelled = 0  # further training images, labels dropped; -1 takes all that remain
    data.val_fraction = 0.15  # of the images, where the source has no split of its own
    data.test_fraction = 0.25  # likewise
    data.folds = 0  # k-fold: test is one of so many parts that hold every image once; 0: a share
    data.fold = 0  # which of them, from 0
    data.splits_file = ""  # ids and splits, e.g. data/splits.parquet of another run; "" draws them
    data.seed = 0  # the split; kept apart from `seed`, so that runs share one test set
    # Any of docs/augmentation.md, which tells the order in which they are applied.
    data.augment = ("shift", "rotate", "scale", "brightness", "contrast", "noise")
    data.prefetch = 4  # batches prepared ahead of the step

    config.gan = gan = ml_collections.ConfigDict()
    gan.model = "dcgan"  # dcgan, or resnet (projection ResNet-GAN, several times as costly)
    gan.spectral = False  # spectral normalisation of the resnet discriminator
    gan.z_dim = 64  # length of the latent vector
    gan.width = 16  # dcgan: channels at the full resolution; doubled at each halving, at most 8x;
    # resnet: channels are multiples of it, 64 is the published network
    gan.dtype = "float32"  # of the products: float32, or bfloat16 where the device is made for it
    gan.loss = "non_saturating"  # non_saturating, hinge or wasserstein
    gan.penalty = "r1"  # none, r1 (on reals) or gp (WGAN-GP, on interpolates)
    gan.penalty_weight = 0.1  # gamma of r1 (gamma/2 |grad|^2) or lambda of gp
    gan.n_critic = 1  # discriminator updates per generator update
    gan.diffaugment = ("color", "translation", "cutout")  # on reals and fakes, both updates
    gan.diffaugment_fill = -1.0  # what enters at edges and holes: -1 black, 0 mid-grey
    gan.batch = 32  # images per discriminator update, over all devices
    gan.accumulate = 1  # micro-batches per update: less memory, the same update
    gan.remat = False  # compute activations again instead of keeping them: less memory, slower
    gan.g_lr = 2e-4
    gan.d_lr = 4e-4
    gan.b1 = 0.0  # Adam
    gan.b2 = 0.99
    gan.ema = 0.999  # decay per step of the generator that makes the images
    gan.steps = 4000  # generator updates
    gan.log_every = 50
    gan.sample_every = 500  # sample grids from fixed latents
    gan.checkpoint_every = 500

    # Translation between domains (docs/translation.md); launch.train_translator and what uses its
    # translator read these, no stage of the loop does. As published for CelebA where it says so.
    config.translator = translator = ml_collections.ConfigDict()
    translator.domains = "classes"  # classes; healthy: that class, and all others as one domain; or
    # attributes: the bits of the class's number, see data.attributes
    translator.healthy = ""  # name of the class without disease, to which maps of disease translate
    translator.match_heights = 0.0  # share of the healthy slices that are drawn as often at each
    # height of their volume as diseased ones lie there; domains=healthy (docs/detection.md#slices)
    translator.fixed_point = True  # False leaves the same-domain terms out: StarGAN
    translator.critic = "code"  # translations in the discriminator's loss: code (cross-domain ones,
    # as released), patent (both, two to one) or mean (both, averaged)
    translator.output = "clip"  # clip, atanh, blend; tanh as published; plain for StarGAN
    translator.targets = "permuted"  # as published, the batch's domains in another order; or other
    translator.width = 64  # channels at the full resolution, of both networks; 64 is published
    translator.blocks = 6  # residual blocks; 6 is published
    translator.dtype = "float32"  # of the products, or bfloat16
    translator.penalty_weight = 10.0  # lambda_gp
    translator.domain_weight = 1.0  # lambda_dom
    translator.cycle_weight = 10.0  # lambda_cyc
    translator.identity_weight = 10.0  # lambda_id; 0.1 is published for BRATS
    translator.n_critic = 5  # discriminator updates per update of the translator
    translator.batch = 16  # images per update, over all devices
    translator.accumulate = 1  # micro-batches per update: less memory, the same update
    translator.remat = False  # compute activations again instead of keeping them
    translator.augment = ("flip",)  # of docs/augmentation.md but mixup
    translator.g_lr = 1e-4
    translator.d_lr = 1e-4
    translator.b1 = 0.5  # Adam
    translator.b2 = 0.999
    translator.decay = 0.0  # last share of the steps, over which both rates fall to 0 linearly; the
    # published programs mean to and, by a slip, do not
    translator.ema = 0.999  # decay per step of the translator that is used
    translator.steps = 40000  # updates of the translator; 200,000 of the discriminator
    translator.log_every = 50
    translator.sample_every = 1000  # sheets of translated images
    translator.checkpoint_every = 1000

    # What a translator is compared with in finding disease (docs/detection.md); only
    # launch.train_detector reads these, with translator.domains and translator.healthy.
    config.detector = detector = ml_collections.ConfigDict()
    detector.steps = 3000  # the same for every network
    detector.batch = 16  # images per update; half of them healthy where a network learns from both
    detector.accumulate = 1  # micro-batches per update: less memory, the same update
    detector.remat = False  # compute activations again instead of keeping them
    detector.augment = ("flip",)  # of docs/augmentation.md but mixup, for gradcam and unet
    # The same for autoencoder and vae: what is moved they learn to blur.
    detector.healthy_augment = ("flip",)
    detector.lr = 1e-3  # after a tenth of warm-up it falls to 0 along a cosine
    detector.width = 16  # channels of the first layers; 64 in the published ResNet and U-Net. The
    # autoencoder has translator.width and translator.blocks
    detector.dtype = "float32"  # of the products, or bfloat16
    detector.depth = 10  # gradcam: layers of the ResNet
    detector.stem = "small"  # gradcam: small leaves an eighth of the resolution, imagenet a 32nd
    detector.latent = 128  # vae: length of the vector an image goes through
    detector.kl_weight = 0.02  # vae: the larger, the less of an image goes through
    detector.log_every = 50
    detector.sample_every = 1000  # sheets of images and maps
    detector.checkpoint_every = 1000

    config.generate = generate = ml_collections.ConfigDict()
    generate.generator = "gan"  # what makes the pools: gan, of noise; or translator, of healthy
    # training images those of the other classes, and of theirs healthy ones (docs/rare_classes.md)
    generate.repeats = 1  # translator: most images of a class that are made of one real image; from
    # the second on it is augmented first (data.augment)
    generate.first_per_class = 300  # first pool (S1), annotated
    generate.second_per_class = 400  # second pool (S2), filtered
    generate.batch = 100  # images per forward pass; part of what regenerates an image
    generate.shards = 1  # fewest record files per pool; there is one per process and 16,384 images

    config.features = features = ml_collections.ConfigDict()
    features.depth = 10  # the small network on real images that all arms share
    features.stem = "auto"  # small (stride 1), imagenet (reduces 4x), auto: small up to 64 px
    features.width = 16
    features.dtype = "float32"  # of the products, or bfloat16
    features.batch = 32
    features.accumulate = 1  # micro-batches per update: less memory, the same update
    features.remat = False  # compute activations again instead of keeping them: less memory, slower
    features.lr = 2e-3
    features.steps = 400
    features.log_every = 50
    features.checkpoint_every = 200

    config.annotate = annotate = ml_collections.ConfigDict()
    # knn, consistency, sklearn:NAME(key=value) or ensemble; review: what people said of the pool;
    # review+NAME: what they said, and NAME, which learns from it if it learns, for the rest.
    annotate.method = "ensemble"
    annotate.members = ("knn", "consistency", "sklearn:SVC")  # of the ensemble
    annotate.threshold = 0.25  # non-real-like: less realistic than all but this share of reals
    annotate.neighbours = 3  # k of the k-NN realism
    # On phantoms a VRN beats knn from some 50 labels of an expert on, and not surely without any
    # (docs/results/truth.md).
    annotate.given = ""  # labels.parquet of an expert for (part of) this pool; "" for none
    annotate.confident_share = 0.2  # extremes that stand in for given labels where none are

    # Reader studies (docs/review.md). Of all of it only `rule` and the labels given count for the
    # stages, and only where annotate.method asks for them.
    config.review = review = ml_collections.ConfigDict()
    review.name = "main"  # of the study; a run may have several
    review.database = ""  # URL of SQLAlchemy; "" is review/review.sqlite of the work directory
    review.raters = ("rater-1",)  # pseudonyms, never names
    review.labels = "three"  # real-like, unsure, non-real-like; five: surer ones too; turing: real?
    review.pool = "first"  # or second: whose images are shown
    review.images = 0  # of the pool, drawn at random; 0: all
    review.real_share = 0.1  # of what is shown: validation images, hidden among the synthetic ones
    review.repeats = 0.05  # share of the images that every rater sees twice
    review.raters_per_image = 0  # each image goes to so many of the raters; 0: to all
    review.order = "random"  # active: first those of which the VRN is least certain
    review.seed = 0  # of draws, orders and assignment
    review.rule = "majority"  # of several raters, or weighted by their agreement; a tie is unsure
    review.faults = ("anatomy", "texture", "artefact", "contrast")  # tags at hand; others are typed

    config.extract = extract = ml_collections.ConfigDict()
    extract.held_out = 0.4  # of the annotated pool: half calibrates, half measures the VRN
    extract.min_negatives = 100  # non-real-like images that the VRN needs for training
    extract.min_negatives_per_class = 3
    extract.max_rounds = 3  # pools of first_per_class each, before giving up

    config.vrn = vrn = ml_collections.ConfigDict()
    vrn.depth = 18  # 18, 34, 50 or 101; 34 gained nothing on phantoms (docs/results/truth.md)
    vrn.stem = "auto"  # small (stride 1), imagenet (reduces 4x), auto: small up to 64 px
    vrn.width = 16  # channels of the first stage; 64 is the published ResNet
    vrn.dtype = "float32"  # of the products, or bfloat16
    # How places become features: average, top (quarter) or bilinear; on phantoms the others gained
    # nothing, nor did accepted positives behind the guard (docs/results/truth.md).
    vrn.head = "average"
    # The guard: both classes are reduced to this many pixels, blurred and made noisy. Without it a
    # strong trace of the generator is learnt instead of the faults (on phantoms AUC 0.57, with it
    # 0.84); faults of fine texture and part of the ribs go with the trace (docs/results/truth.md).
    vrn.input_size = 32
    vrn.blur = 1.0  # largest random blur in training, standard deviation in pixels; 0: none
    vrn.noise = 0.1  # largest random noise in training, of an image's range of 2; 0: none
    # real, or real+accepted (adds the pool's real-like images). By an expert's labels these are a
    # guard of their own (0.85 without the other); automatic annotators call half of the faults so.
    vrn.positives = "real"
    vrn.batch = 32
    vrn.accumulate = 1  # micro-batches per update: less memory, the same update
    vrn.remat = False  # compute activations again instead of keeping them: less memory, slower
    vrn.lr = 1e-3
    vrn.label_smoothing = 0.1
    vrn.steps = 400
    vrn.calibration = "temperature"  # temperature or isotonic
    vrn.log_every = 50
    vrn.checkpoint_every = 200

    config.filter = filters = ml_collections.ConfigDict()
    filters.names = ("vrn", "discriminator", "knn", "confidence", "random")
    filters.keep = 0.5  # share of the second pool that every filter keeps, in each class

    config.target = target = ml_collections.ConfigDict()
    target.arms = (
        "real", "classical", "duplicate", "unfiltered", "random",
        "discriminator", "knn", "confidence", "vrn",
    )  # fmt: skip
    target.seeds = 3  # target models per arm
    target.depth = 10
    target.stem = "auto"  # small (stride 1), imagenet (reduces 4x), auto: small up to 64 px
    target.width = 16
    target.dtype = "float32"  # of the products, or bfloat16
    target.batch = 32
    target.accumulate = 1  # micro-batches per update: less memory, the same update
    target.remat = False  # compute activations again instead of keeping them: less memory, slower
    target.lr = 2e-3
    target.steps = 300  # the same for every arm
    target.shares = (0.25, 0.5)  # synthetic share of a batch, chosen on validation
    target.strengths = (0.0, 0.5)  # augmentation strength, chosen on validation
    target.log_every = 50
    target.checkpoint_every = 1000

    # Labels from radiology reports (docs/data.md); only launch.label_reports reads these.
    config.reports = reports = ml_collections.ConfigDict()
    reports.findings = ml_collections.ConfigDict()  # {class name: terms}, "*" for any ending
    reports.normal = "normal"  # class of reports in which no finding is present or uncertain

    config.report = report = ml_collections.ConfigDict()
    report.resamples = 1000  # of the bootstrap
    report.images = 8  # per row of the picture tables
    return config
